//! Programs that are not ours: what the README tells a newcomer to type, and vendors' and stock clients.

use crate::crash::has;
use crate::support::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The shell blocks of a section of the README, in order.
fn blocks(section: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let from = readme.find(section).unwrap_or_else(|| panic!("the README has no section {section:?}"));
    let body = &readme[from + section.len()..];
    let body = &body[..body.find("\n## ").unwrap_or(body.len())];
    body.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON * 2, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The blocks as they stand in the README, but for the port and the folder, which must be this test's own.
#[test]
fn the_readmes_first_minute_works_word_for_word() {
    let blocks = blocks("## A minute to the first message");
    let [tail, open, curl, wscat, other, again] = blocks.as_slice() else { panic!("the blocks are six: {blocks:?}") };
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let binaries = Path::new(env!("CARGO_BIN_EXE_tieline")).parent().unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.arg("-c").arg(script.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))).current_dir(dir.path());
        command.env("TIELINE__SERVER__LISTEN", format!("127.0.0.1:{port}")).env("TIELINE__LOG__LEVEL", "warn");
        command
    };
    // The block that puts the program into the path names the release folder of the checkout.
    let path = format!("export PATH=\"{}:$PATH\"\n", binaries.display());
    let tail = tail.replace("export PATH=\"$PWD/target/release:$PATH\"\n", &path);
    assert!(tail.starts_with(&path), "{tail}");
    let serve = || Running(shell(&format!("{path}exec tieline")).stdout(Stdio::null()).spawn().unwrap());
    let health = || shell(&format!("{path}tieline health")).stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap().success();
    let mut gateway = serve();
    until("readiness", health);
    let seen = dir.path().join("tail.out");
    let out = std::fs::File::create(&seen).unwrap();
    let _tail = Running(shell(&tail.replace("tieline tail", "exec tieline tail")).stdout(out).stderr(Stdio::null()).spawn().unwrap());
    let run = |script: String| {
        let mut child = shell(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Held open as a terminal is: wscat leaves when its input ends.
        let _terminal = child.stdin.take();
        let output = output_of(child, &script, LONG);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let id = run(format!("{path}{open}"));
    assert_eq!(id.len(), 36, "the id alone: {id}");
    let given = format!("{path}CONVERSATION={id}\n");
    let tokens: String =
        curl.lines().filter(|line| line.starts_with("APP=") || line.starts_with("ANN=")).map(|line| format!("{line}\n")).collect();
    assert_eq!(run(format!("{given}{curl}")), r#"{"code":"OK","body":{"sequence":1},"reqId":"1"}"#);
    let mut texts = vec!["hello from tieline send", "hello from curl"];
    if has_npx() {
        let said = run(format!("{given}{tokens}{wscat}"));
        assert!(said.contains(r#""reqId":"2","code":200"#), "{said}");
        texts.push("hello from wscat");
    } else {
        println!("SKIPPED the wscat block of the_readmes_first_minute: npx is not installed");
    }
    assert_eq!(run(format!("{given}{tokens}{other}")), "401");
    gateway.0.kill().unwrap();
    gateway.0.wait().unwrap();
    let _gateway = serve();
    until("readiness after the kill", health);
    assert_eq!(run(format!("{given}{again}")), texts.len().to_string());
    texts.push("still here");
    let expected: Vec<String> = texts.iter().enumerate().map(|(number, text)| format!("{id} {number} CONSUMER: {text}")).collect();
    until("every message in the tail", || std::fs::read_to_string(&seen).unwrap().lines().count() >= expected.len());
    assert_eq!(std::fs::read_to_string(&seen).unwrap().lines().collect::<Vec<_>>(), expected);
}

fn has_npx() -> bool {
    Command::new("npx").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether a program can be run. It is skipped, by name, where what it needs was not installed by `cargo xtask test`; where
/// that has run, it must be there.
pub fn is_ready(name: &str, needs: &Path, is_there: bool) -> bool {
    let is_there = is_there && needs.exists();
    if !is_there {
        assert!(std::env::var_os("TIELINE_CLIENTS").is_none(), "{} is missing, and was to be installed", needs.display());
        println!("SKIPPED {name}: {} is missing; `cargo xtask test` installs it", needs.display());
    }
    is_there
}

/// A gateway that runs while this thread waits for a program. It ends with the runtime.
pub fn gateway(config: &str) -> (tokio::runtime::Runtime, TestServer) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(TestServer::with(config));
    (runtime, server)
}

pub const TLS: &str = "[server.tls]\nlisten = \"127.0.0.1:0\"\nself_signed = true\n";

/// Runs a program of `tests/clients` to its end, which must be good.
pub fn run(name: &str, program: &Path, script: &str, server: &TestServer, more: &[(&str, &str)]) {
    let mut command = Command::new(program);
    command.arg(script).current_dir(clients("")).env("TIELINE_HTTP", format!("http://{}", server.address)).envs(more.iter().copied());
    if let Some(tls) = server.tls {
        command.env("TIELINE_HTTPS", format!("https://localhost:{}", tls.port()));
        command.env("NODE_EXTRA_CA_CERTS", server.data().join("tls/ca.pem"));
    }
    let output = output(&mut command, LONG);
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{}", said.trim());
    assert!(output.status.success() && said.contains("ok "), "{name}: {said}\n{wrong}");
}

/// Runs a program against a gateway of its own, over TLS too.
fn client(name: &str, program: &Path, script: &str, needs: &Path, config: &str) {
    if is_ready(name, needs, true) {
        let (_runtime, server) = gateway(&format!("{TLS}{config}"));
        run(name, program, script, &server, &[]);
    }
}

/// Something of the clients' folder.
pub fn clients(path: &str) -> PathBuf {
    root().join("tests/clients").join(path)
}

#[test]
fn a_stock_node_client_does_the_complete_run_with_an_agent_on_v2() {
    client("ws", Path::new("node"), "run_ws.mjs", &clients("node_modules/ws"), "");
}

#[test]
fn a_stock_python_client_does_the_complete_run_with_an_agent_on_v3() {
    client("websockets", &clients(".venv/bin/python"), "run_websockets.py", &clients(".venv/bin/python"), "");
}

#[test]
fn the_vendors_agent_sdk_works_unchanged_over_tls() {
    client("node-agent-sdk", Path::new("node"), "node_agent_sdk.cjs", &clients("node_modules/node-agent-sdk"), "");
}

/// What an agent, a manager and an agent of another queue do from morning to evening.
const WORKING_DAY: &str = r#"
[routing]
ring = "2s"
refusal = "60s"
"#;

#[test]
fn the_vendors_agent_sdk_works_a_whole_day() {
    let needs = clients("node_modules/node-agent-sdk");
    client("working-day", Path::new("node"), "working_day.cjs", &needs, WORKING_DAY);
}

/// Imports run one way: no module names one above it. The order is the map in `lib.rs`.
#[test]
fn no_module_imports_one_above_it() {
    let order = [
        "domain", "files", "store", "search", "hub", "identity", "gateway", "work", "delivery", "session", "dialect", "http", "reload",
        "cli",
    ];
    // What stands beside each other in the map.
    let siblings = [
        ("store", "hub"),
        ("hub", "store"),
        ("store", "files"),
        ("hub", "files"),
        ("search", "files"),
        ("hub", "search"),
        ("identity", "search"),
        ("gateway", "search"),
        ("session", "search"),
        ("delivery", "work"),
        ("session", "work"),
        ("session", "delivery"),
        ("dialect", "work"),
    ];
    let mut wrong = Vec::new();
    let mut files = vec![root().join("src")];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        // What lies beside the order may use the rules and nothing else.
        let beside = ["config", "map", "openapi", "outbound", "random", "throttle"].contains(&module.as_str());
        let Some(own) = order.iter().position(|name| *name == module).or_else(|| beside.then_some(0)) else { continue };
        looked_at += 1;
        for line in std::fs::read_to_string(&path).unwrap().lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (place, name) in order.iter().enumerate() {
                let is_above = place > own || siblings.contains(&(module.as_str(), *name));
                let names = ["crate", "super::super", "super::super::super"].iter().any(|front| line.contains(&format!("{front}::{name}")));
                if is_above && names {
                    wrong.push(format!("{}: {}", inside.display(), line.trim()));
                }
            }
            // A group could hide one.
            if line.contains("crate::{") {
                wrong.push(format!("{}: {}", inside.display(), line.trim()));
            }
        }
    }
    assert!(looked_at > 20, "{looked_at}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And the map in `lib.rs` names each of them.
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(order.iter().all(|name| map.contains(&format!("//! | [`{name}`]"))));
    assert!(!has("nonexistent-tool"), "the check for tools can fail");
}

/// As [`client`], with a page from an origin of its own, which must be listed.
#[test]
fn a_customer_in_a_browser_sees_the_whole_conversation_through_reloads_and_cuts() {
    let has_chromium = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_ready("browser_chat (with chromium)", &clients("node_modules/playwright-core"), has_chromium) {
        return;
    }
    let page = free_port().to_string();
    let (_runtime, server) = gateway(&format!("[server]\nallowed_origins = [\"http://127.0.0.1:{page}\"]\n{TLS}"));
    let more = [("TIELINE_PAGE_PORT", page.as_str()), ("TIELINE_SURVEY", "1"), ("TIELINE_FILES", "1")];
    run("browser_chat", Path::new("node"), "browser_chat.mjs", &server, &more);
}

/// A gateway that posts each type of webhook of the demo application to a path of its own at this port.
fn with_hooks(port: u16) -> String {
    let messages = "ms.MessagingEventNotification";
    let hooks = [
        (format!("{messages}.ContentEvent"), "content", ", headers = [{ name = \"X-Shop\", value = \"7\" }]"),
        (format!("{messages}.RichContentEvent"), "rich", ""),
        (format!("{messages}.AcceptStatusEvent"), "receipt", ""),
        (format!("{messages}.ChatStateEvent"), "typing", ", max_retries = 0"),
        ("cqm.ExConversationChangeNotification".to_owned(), "conversation", ""),
    ]
    .map(|(event, path, more)| format!("{{ event = \"{event}\", endpoint = \"http://127.0.0.1:{port}/{path}\"{more} }}"));
    let hooks = format!("capabilities = [\"webhooks\"]\nwebhook_retention = \"1h\"\nwebhooks = [{}]\n", hooks.join(", "));
    format!("[webhooks]\nretry_wait = \"50ms\"\n\n# app demo-connector\n{hooks}")
}

/// As [`client`], with a receiver of webhooks, and with an AppJWT that is over before the program is.
#[test]
fn a_connector_of_plain_http_calls_hears_of_the_agent_by_webhooks_alone() {
    let python = clients(".venv/bin/python");
    if !is_ready("connector", &python, true) {
        return;
    }
    let port = free_port();
    let (_runtime, server) = gateway(&with_hooks(port));
    let mut short = Command::new(env!("CARGO_BIN_EXE_tieline"));
    short.args(["token", "app", "--account", ACCOUNT, "--ttl", "1s"]).current_dir(server.data());
    let short = output(short.env("TIELINE__SERVER__DATA_DIR", server.data()), SOON * 4);
    assert!(short.status.success(), "{short:?}");
    let short = String::from_utf8(short.stdout).unwrap();
    run("connector", &python, "connector.py", &server, &[("TIELINE_HOOK_PORT", &port.to_string()), ("TIELINE_SHORT_JWT", short.trim())]);
}
