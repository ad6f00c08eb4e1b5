//! The pages are true: what they name exists, and what exists they name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tieline::config::{Config, DEFAULTS};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Part of a page, from a heading to the next of its rank.
fn chapter(page: &str, heading: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("there is no chapter {heading:?}"));
    rest.split("\n## ").next().unwrap().to_owned()
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The program's source without its tests.
fn source() -> Vec<String> {
    let of_program = files(&root().join("src"), "rs").into_iter().filter(|path| !path.to_string_lossy().contains("/tests"));
    of_program.map(|path| std::fs::read_to_string(path).unwrap().split("#[cfg(test)]").next().unwrap().to_owned()).collect()
}

/// The words of a text that begin as given and go on with letters, digits and `_`.
fn words(text: &str, start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (place, _) in text.match_indices(start) {
        let word: String = text[place..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        found.insert(word);
    }
    found
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_described_documented_and_counted() {
    let is_metric = |word: &String| word.len() > "tieline_".len() && *word != "tieline_protocol";
    let all: BTreeSet<String> = source()
        .iter()
        .flat_map(|text| {
            text.split("!(\"tieline_").skip(1).map(|rest| format!("tieline_{}", rest.split('"').next().unwrap())).collect::<Vec<_>>()
        })
        .collect();
    let lib = page("src/lib.rs");
    let (_, described) = lib.split_once("fn describe_metrics()").unwrap();
    let described = words(described.split("\n}\n").next().unwrap(), "tieline_");
    assert_eq!(all, described, "metrics that are counted, and those that are described");
    let documented: BTreeSet<String> =
        words(&chapter(&page("docs/operator.md"), "Metrics"), "tieline_").into_iter().filter(is_metric).collect();
    assert_eq!(described, documented, "metrics that exist, and those in docs/operator.md");
    // Names by the conventions: counters end in `_total`, and no unit but base units.
    let kind =
        |name: &str| lib.split_once(&format!("!(\"{name}\"")).and_then(|(before, _)| before.rsplit([' ', '\n']).next()).unwrap().to_owned();
    for name in &described {
        assert_eq!(kind(name) == "counter", name.ends_with("_total"), "{name}: a counter ends in _total, and nothing else does");
        assert!(!["_ms", "_millis", "_minutes", "_kb", "_percent"].iter().any(|unit| name.contains(unit)), "{name}: base units");
    }
    // And no other page names one that is not there.
    for path in files(&root().join("docs"), "md").into_iter().chain([root().join("README.md")]) {
        let named: BTreeSet<String> = words(&std::fs::read_to_string(&path).unwrap(), "tieline_").into_iter().filter(is_metric).collect();
        let unknown: Vec<_> =
            named.iter().filter(|name| !described.contains(*name) && name.as_bytes()["tieline_".len()].is_ascii_lowercase()).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

/// A text without what stands in brackets, which may stand in each other.
fn without(text: &str, open: char, close: char) -> String {
    let mut depth = 0;
    let mut kept = String::new();
    for c in text.chars() {
        depth += i32::from(c == open);
        if depth == 0 {
            kept.push(c);
        }
        depth -= i32::from(c == close);
    }
    kept
}

/// The settings of a table, with those of the tables in it.
fn flatten(under: &str, table: &toml::Table, all: &mut BTreeSet<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{under}{key}."), inner, all),
            _ if key == "accounts" => {}
            _ => drop(all.insert(format!("{under}{key}"))),
        }
    }
}

/// What an entry of a list may hold: the refusal of an unknown member names them.
fn members(list: &str) -> BTreeSet<String> {
    let mut text = String::from("[[accounts]]\n");
    if list == "accounts" {
        text += "nonsense = 1\n";
    } else {
        text += &format!("id = \"x\"\n[[{list}]]\nnonsense = 1\n");
    }
    let said = Config::from_parts(Some(("x", &text)), []).unwrap_err().to_string();
    let (_, expected) = said.split_once("expected ").unwrap_or_else(|| panic!("{list}: {said}"));
    quoted(expected.lines().next().unwrap()).into_iter().collect()
}

#[test]
fn every_setting_is_documented_with_its_name_and_no_other_is() {
    let mut expected = BTreeSet::new();
    flatten("", &toml::from_str(DEFAULTS).unwrap(), &mut expected);
    let lists = [
        "accounts",
        "accounts.apps",
        "accounts.agents",
        "accounts.queues",
        "accounts.sign_in",
        "accounts.api_keys",
        "accounts.oauth_apps",
        "accounts.tags",
        "accounts.attributes",
        "accounts.contact_endpoints",
        "accounts.flows",
        "accounts.websites",
        "accounts.audiences",
        "accounts.bots",
        "accounts.hubs",
        "accounts.integrations",
    ];
    for list in lists {
        // Lists within have a chapter of their own.
        let inner: Vec<&str> = lists.iter().filter_map(|inner| inner.strip_prefix(list)?.strip_prefix('.')).collect();
        expected
            .extend(members(list).into_iter().filter(|member| !inner.contains(&member.as_str())).map(|member| format!("{list}.{member}")));
    }
    let chapter = chapter(&page("docs/operator.md"), "Every setting");
    let mut documented = BTreeSet::new();
    for row in chapter.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.trim_start_matches("| ").split(" | ").next().unwrap();
        // `a.b` names one; `.c` one beside it; in brackets stands the default.
        let names = without(cell, '[', ']');
        let (within, names) = match names.split_once("`: ") {
            Some((list, members)) => (list.trim_start_matches('`').to_owned(), members.to_owned()),
            None => (String::new(), names),
        };
        let names = without(&names, '(', ')');
        let mut section = within.clone();
        for name in quoted(&names) {
            if let Some(name) = name.strip_prefix('.') {
                documented.insert(format!("{section}.{name}"));
            } else if within.is_empty() {
                section = name.rsplit_once('.').map(|(section, _)| section.to_owned()).unwrap_or_default();
                documented.insert(name);
            } else {
                documented.insert(format!("{within}.{name}"));
            }
        }
    }
    let missing: Vec<_> = expected.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not documented: {missing:?}; documented and not there: {unknown:?}");
    // What is a variable is one by the same name.
    for name in expected.iter().filter(|name| !name.starts_with("accounts")) {
        let is_list = [
            "files.types",
            "files.fetch_allow",
            "server.allowed_origins",
            "server.dialects",
            "webhooks.schedule",
            "webhooks.allow",
            "webhooks.ports",
        ];
        if !is_list.contains(&name.as_str()) {
            let variable = format!("TIELINE__{}", name.to_uppercase().replace('.', "__"));
            let refused = Config::from_parts(None, [(variable.clone(), "\u{1}".to_owned())]).err().map(|error| error.to_string());
            assert!(refused.is_none_or(|said| !said.contains("there is no setting")), "{variable}");
        }
    }
}

/// The arguments of a macro that begins at a place, without what strings hold.
fn arguments(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                while let Some(inside) = characters.next() {
                    match inside {
                        '\\' => drop(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                part.push('"');
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty() && !part.starts_with('"')).collect()
}

#[test]
fn every_field_of_the_log_is_documented_and_no_other_is() {
    let mut fields = BTreeSet::new();
    for text in source() {
        for level in ["trace", "debug", "info", "warn", "error", "info_span"] {
            for rest in text.split(&format!("tracing::{level}!(")).skip(1) {
                for argument in
                    arguments(rest).into_iter().filter(|argument| !["target:", "parent:"].iter().any(|word| argument.starts_with(word)))
                {
                    let name = argument.trim_start_matches(['%', '?']);
                    fields.insert(name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>());
                }
            }
        }
    }
    let logs = chapter(&page("docs/operator.md"), "Logs");
    let (_, listed) = logs.split_once("- Fields: ").unwrap();
    let documented: BTreeSet<String> = quoted(listed.split("\n- ").next().unwrap()).into_iter().collect();
    let missing: Vec<_> = fields.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&fields).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not documented: {missing:?}; documented and not there: {unknown:?}");
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>();
    kept.trim().replace(' ', "-")
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let pages: Vec<PathBuf> =
        files(&root().join("docs"), "md").into_iter().chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name))).collect();
    let mut anchors: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for path in &pages {
        let headings = std::fs::read_to_string(path).unwrap();
        let headings = headings.lines().filter_map(|line| line.strip_prefix('#').map(|rest| anchor(rest.trim_start_matches('#'))));
        anchors.insert(path.clone(), headings.collect());
    }
    let mut checked = 0;
    for path in &pages {
        let text = std::fs::read_to_string(path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let link: String = link.split_whitespace().collect();
            if link.contains("://") || link.is_empty() {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let target = std::fs::canonicalize(&target).unwrap_or_else(|_| panic!("{}: {link} leads nowhere", path.display()));
            if !place.is_empty() {
                let known = anchors.get(&target).unwrap_or_else(|| panic!("{}: {link}: no page with headings", path.display()));
                assert!(known.contains(place), "{}: {link}: there is no such heading", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn every_row_of_a_table_has_as_many_cells_as_its_head() {
    let cells = |row: &str| row.trim().trim_matches('|').replace("\\|", "").matches('|').count() + 1;
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut head: Option<usize> = None;
        let mut is_code = false;
        for line in text.lines() {
            is_code ^= line.starts_with("```");
            match line.starts_with('|') && !is_code {
                true => assert_eq!(cells(line), *head.get_or_insert(cells(line)), "{}: {line}", page.display()),
                false => head = None,
            }
        }
    }
}

#[test]
fn every_command_is_in_the_table_of_commands() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_tieline")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").expect("help lists the commands");
    // What goes on below a command stands further in.
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let commands = names.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    let table = chapter(&page("docs/operator.md"), "The command line");
    let documented = words(&table.replace("`tieline ", "`tieline_"), "tieline_");
    for command in commands.filter(|command| *command != "help") {
        assert!(documented.contains(&format!("tieline_{command}")), "{command}");
    }
}
