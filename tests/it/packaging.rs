//! What the gateway is delivered as: the Debian package, the unit, the container, the dashboard and the alerts.

use crate::support::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program of this machine, or one that `cargo xtask test` fetched. Without it the test is skipped, by name; where all of
/// them were fetched, it must be there.
pub fn program(test: &str, name: &str) -> Option<Command> {
    let tools = root().join("target/tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons are where only root's path leads.
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    folders.extend(["bin", "debian/usr/bin", "debian/usr/sbin"].map(|folder| tools.join(folder)));
    folders.push(root().join("tests/clients/.venv/bin"));
    let Some(found) = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()) else {
        assert!(std::env::var_os("TIELINE_TOOLS").is_none(), "{name} is missing, and was to be fetched");
        println!("SKIPPED {test}: {name} is missing; `cargo xtask test` fetches it where it can");
        return None;
    };
    let mut command = Command::new(&found);
    if found.starts_with(tools.join("debian")) {
        let libraries = std::fs::read_dir(tools.join("debian/usr/lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    }
    Some(command)
}

pub fn succeeds(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = output(command, LONG);
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{shown}: {status}\n{said}\n{}", String::from_utf8_lossy(&stderr));
    said
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

#[test]
fn the_unit_lets_the_service_do_little() {
    let unit = root().join("deploy/systemd/tieline.service");
    if let Some(mut analyze) = program("the_unit_lets_the_service_do_little", "systemd-analyze") {
        // The verdict is the last line. 20 is 2.0 of 10.
        let said = succeeds(analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(unit));
        println!("unit: {}", said.trim().lines().last().unwrap_or_default());
    }
}

/// Puts the program under test into a package of this version.
fn package(dir: &Path, version: &str) -> Option<PathBuf> {
    let mut deb = program("the_package_installs_upgrades_and_goes", "cargo-deb")?;
    // Where a build by the profile `dist` would have put it: nothing is compiled.
    let built = dir.join("target/dist");
    std::fs::create_dir_all(&built).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_tieline"), built.join("tieline")).unwrap();
    let package = dir.join(format!("tieline_{version}.deb"));
    let cargo = Path::new(env!("CARGO")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(cargo).chain(std::env::split_paths(&path))).unwrap();
    deb.args(["--no-build", "--no-strip", "--fast", "--locked", "--profile", "dist", "--deb-version", version, "--output"]);
    deb.arg(&package).current_dir(root()).env("CARGO_TARGET_DIR", dir.join("target")).env("PATH", path);
    succeeds(&mut deb);
    Some(package)
}

/// This system with a layer over it that takes what is written and is thrown away: the package meets a real Debian, and leaves
/// nothing. `/run` is empty, so no service manager is found there. What is in the test's folder is seen as `/mnt`.
const LAYER: &str = r#"
set -eu
dir=$1
shift
mkdir "$dir/layer"
mount -t tmpfs -o mode=755 tmpfs "$dir/layer"
mkdir "$dir/layer/upper" "$dir/layer/work" "$dir/layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/layer/upper,workdir=$dir/layer/work" "$dir/layer/root"
mount -t proc proc "$dir/layer/root/proc"
mount --rbind /dev "$dir/layer/root/dev"
mount -t tmpfs tmpfs "$dir/layer/root/run"
mount --bind "$dir" "$dir/layer/root/mnt"
exec chroot "$dir/layer/root" "$@"
"#;

fn in_a_layer(dir: &Path, command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    // All processes in it end with the first one.
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", LAYER, "sh"]).arg(dir).args(command).current_dir("/");
    unshare
}

/// What an operator does in a year. `PORT` is a free port.
const YEAR: &str = r#"
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
so() { echo "is it so: $*"; "$@"; }
config=/etc/tieline/config.toml
unit=/lib/systemd/system/tieline.service
tell() { runuser -u tieline -- env TIELINE_URL=http://127.0.0.1:PORT tieline --config $config "$@"; }
state() { find /var/lib/tieline/keys $config -type f | sort | xargs sha256sum; }
# The unit's environment, without another: as the service manager would.
service() {
    cd "$(sed -n 's/^WorkingDirectory=//p' $unit)"
    umask 077
    env -i PATH=/usr/bin:/bin $(sed -n 's/^Environment=//p' $unit) $(cat /etc/default/tieline) "$@" &
    pid=$!
    cd /
    tries=0
    until tell health 2>/dev/null; do
        tries=$((tries + 1))
        kill -0 $pid && [ $tries -lt 600 ] || { echo "it does not become ready"; exit 1; }
        sleep 0.1
    done
}

dpkg -P tieline
echo TIELINE__SERVER__LISTEN=127.0.0.1:PORT TIELINE__SERVER__TLS__LISTEN=127.0.0.1:0 TIELINE__SERVER__TLS__SELF_SIGNED=true >/etc/default/tieline
dpkg -i /mnt/tieline_0.0.1-1.deb
so [ "$(stat -c '%a %U:%G' $config)" = "640 root:tieline" ]
so [ "$(stat -c '%a %U:%G' /var/lib/tieline)" = "700 tieline:tieline" ]
so [ "$(grep -c 'demo-connector-secret"\|"ada-demo"\|"grace-demo"' $config)" = 0 ]
so grep -q '^listen = "127.0.0.1:8080"' $config
so grep -q '^data_dir = "/var/lib/tieline" ' $config
so [ ! -e $config.new ]
so systemctl is-enabled tieline.service
so systemd-analyze verify --recursive-errors=no tieline.service
so runuser -u nobody -- test ! -r $config
if runuser -u nobody -- tieline --config $config check; then exit 1; fi

service setpriv --reuid=tieline --regid=tieline --init-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    $(sed -n 's/^ExecStart=//p' $unit)
conversation=$(tell send --account demo --as consumer:ann --open "before the upgrade")
kill -TERM $pid
wait $pid

echo '# of the operator' >>$config
before=$(state)
dpkg -i /mnt/tieline_0.0.2-1.deb
so [ "$(dpkg-query -W -f '${Version}' tieline)" = 0.0.2-1 ]
so [ "$(state)" = "$before" ]
so [ "$(stat -c '%a %U:%G' $config)" = "640 root:tieline" ]
# Each system call it makes is written down, to be held against the unit's filter.
service strace -f -qq -u tieline -o /mnt/calls $(sed -n 's/^ExecStart=//p' $unit)
tell send --account demo --as consumer:ann --conversation "$conversation" "after the upgrade"
kill -TERM $(cat /proc/$pid/task/$pid/children)
wait $pid
so [ "$(state)" = "$before" ]

dpkg -r tieline
so [ ! -e /usr/bin/tieline ]
so [ "$(state)" = "$before" ]
dpkg -i /mnt/tieline_0.0.2-1.deb
so [ "$(state)" = "$before" ]
echo mine >/etc/tieline/fullchain.pem
dpkg -P tieline
so [ ! -e $config ]
so [ ! -e /var/lib/tieline ]
so [ -e /etc/tieline/fullchain.pem ]
so [ ! -e /etc/systemd/system/multi-user.target.wants/tieline.service ]
dpkg -i /mnt/tieline_0.0.2-1.deb
rm /etc/tieline/fullchain.pem
dpkg -P tieline
so [ ! -e /etc/tieline ]
"#;

#[test]
fn the_package_installs_upgrades_and_goes_without_taking_what_is_the_operators() {
    let name = "the_package_installs_upgrades_and_goes";
    let dir = tempfile::tempdir().unwrap();
    let Some(first) = package(dir.path(), "0.0.1-1") else { return };
    let second = package(dir.path(), "0.0.2-1").unwrap();
    let holds = succeeds(Command::new("dpkg-deb").arg("--contents").arg(&first));
    let files =
        ["usr/bin/tieline", "doc/tieline/docs/operator.md", "doc/tieline/docs/deploy.md", "grafana/tieline.json", "proxy/Caddyfile"];
    for file in files {
        assert!(holds.lines().any(|line| line.ends_with(file)), "{file} is missing:\n{holds}");
    }
    let depends = succeeds(Command::new("dpkg-deb").arg("--field").arg(&second).arg("Depends"));
    assert!(depends.contains("adduser") && depends.contains("ca-certificates"), "{depends}");
    let mut tools = ["strace", "systemd-analyze", "dpkg", "adduser", "setpriv"].iter();
    if !is_root() || tools.any(|tool| program(name, tool).is_none()) {
        return println!("SKIPPED {name}: only root of a Debian can install it");
    }
    let probe = tempfile::tempdir().unwrap();
    if !in_a_layer(probe.path(), &["true"]).status().is_ok_and(|status| status.success()) {
        return println!("SKIPPED {name}: this kernel lays nothing over the system");
    }
    std::fs::write(dir.path().join("year.sh"), YEAR.replace("PORT", &free_port().to_string())).unwrap();
    let said = succeeds(&mut in_a_layer(dir.path(), &["sh", "/mnt/year.sh"]));
    println!("package: {} steps held", said.matches("is it so:").count());
    let made = calls(&std::fs::read_to_string(dir.path().join("calls")).unwrap());
    assert!(made.contains("accept4") && made.contains("fsync"), "the calls are those of the gateway: {made:?}");
    let refused: Vec<_> = made.difference(&allowed_calls()).cloned().collect();
    assert!(refused.is_empty(), "the unit refuses what the gateway calls: {refused:?}");
    println!("unit: {} different system calls, all allowed", made.len());
}

/// The names of the calls in a trace.
fn calls(trace: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let call = call.strip_prefix("<... ").map_or_else(|| call.split('(').next(), |rest| rest.split(' ').next())?;
        call.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_').then(|| call.to_owned())
    };
    trace.lines().filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// What the unit's filter lets pass, group by group.
fn allowed_calls() -> BTreeSet<String> {
    let sets = succeeds(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]));
    let members = |set: &str| -> Vec<String> {
        let lines = sets.lines().skip_while(|line| *line != set).skip(1).take_while(|line| line.starts_with(' '));
        lines.map(|line| line.trim().to_owned()).filter(|line| !line.starts_with('#')).collect()
    };
    let expand = |sets: &str| {
        let mut open: Vec<String> = sets.split_whitespace().map(str::to_owned).collect();
        let mut calls = BTreeSet::new();
        while let Some(name) = open.pop() {
            if name.starts_with('@') {
                open.extend(members(&name));
            } else {
                calls.insert(name);
            }
        }
        assert!(!sets.contains('@') || calls.len() > 5, "{sets} is known");
        calls
    };
    // Always let pass, whatever the unit says.
    let mut allowed = expand("@default");
    let always = allowed.clone();
    for line in read("deploy/systemd/tieline.service").lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match line.strip_prefix('~') {
            Some(taken) => allowed = allowed.difference(&expand(taken)).cloned().collect(),
            None => allowed.extend(expand(line)),
        }
    }
    allowed.union(&always).cloned().collect()
}

#[test]
fn the_containerfile_has_nothing_that_a_linter_minds() {
    if let Some(mut hadolint) = program("the_containerfile_has_nothing_that_a_linter_minds", "hadolint") {
        succeeds(hadolint.arg("--no-color").arg(root().join("deploy/container/Containerfile")));
    }
}

/// An instruction's JSON list.
fn list(containerfile: &str, instruction: &str) -> Vec<String> {
    let line = containerfile.lines().rev().find(|line| line.starts_with(instruction)).unwrap();
    serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap()
}

/// As the container does: nothing but the program, the C library and CAs; no shell, a user without a name.
#[test]
fn the_containers_command_serves_without_anything_else_in_the_image() {
    if !is_root() {
        return println!("SKIPPED the_containers_command_serves: only root can change the root folder");
    }
    let text = read("deploy/container/Containerfile");
    let dir = tempfile::tempdir().unwrap();
    let inside = |path: &str| dir.path().join(path.trim_start_matches('/'));
    let copy = |from: &str, to: &str| {
        std::fs::create_dir_all(inside(to).parent().unwrap()).unwrap();
        std::fs::copy(from, inside(to)).unwrap();
    };
    copy(env!("CARGO_BIN_EXE_tieline"), "/usr/bin/tieline");
    let libraries = succeeds(Command::new("ldd").arg(env!("CARGO_BIN_EXE_tieline")));
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(library, library);
    }
    // Without any, clients of TLS are not made, also not for plain HTTP.
    let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap().cert.pem();
    std::fs::create_dir_all(inside("/etc/ssl/certs")).unwrap();
    std::fs::write(inside("/etc/ssl/certs/ca-certificates.crt"), ca).unwrap();
    let data = "/var/lib/tieline";
    std::fs::create_dir_all(inside(data)).unwrap();
    std::os::unix::fs::chown(inside(data), Some(65532), Some(65532)).unwrap();
    // Whoever enters the folder is not who made it.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let port = free_port();
    let settings = text.split_whitespace().filter_map(|word| word.split_once('=')).filter(|(name, _)| name.starts_with("TIELINE__"));
    let settings: Vec<_> = settings.map(|(name, value)| (name, value.replace("0.0.0.0:8080", &format!("0.0.0.0:{port}")))).collect();
    assert!(settings.iter().any(|(name, value)| *name == "TIELINE__SERVER__DATA_DIR" && value == data), "{settings:?}");
    assert!(text.contains("\nUSER 65532:65532\n") && text.contains(&format!("\nVOLUME {data}\n")));
    let command = |words: Vec<String>| {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg("--userspec=65532:65532").arg(dir.path()).args(words).env_clear().envs(settings.clone());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let serve = [list(&text, "ENTRYPOINT"), list(&text, "CMD")].concat();
    let mut gateway = Running(command(serve).spawn().unwrap());
    let health = list(&text, "HEALTHCHECK");
    let began = Instant::now();
    while !command(health.clone()).status().unwrap().success() {
        assert!(gateway.0.try_wait().unwrap().is_none() && began.elapsed() < SOON, "the health check does not come to succeed");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(inside(data).join("tieline.db").exists());
    succeeds(Command::new("kill").arg("-TERM").arg(gateway.0.id().to_string()));
    assert!(gateway.status().success());
    assert!(!command(health).status().unwrap().success(), "the health check fails when nobody serves");
}

/// What an image is built from suffices: cargo finds every target.
#[test]
fn the_containers_context_holds_what_cargo_needs() {
    let dir = tempfile::tempdir().unwrap();
    let ignore = read(".dockerignore");
    assert!(ignore.lines().any(|line| line == "*"), "nothing comes in that is not named");
    for name in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        let to = dir.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        succeeds(Command::new("cp").arg("-r").arg(root().join(name)).arg(to));
    }
    let cargo = |folder: &Path| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]).current_dir(folder);
        let found: Value = serde_json::from_str(&succeeds(&mut cargo)).unwrap();
        let targets = found["packages"].as_array().unwrap().iter().flat_map(|package| package["targets"].as_array().unwrap());
        targets.map(|target| target["name"].to_string()).collect::<BTreeSet<_>>()
    };
    let (all, found) = (cargo(&root()), cargo(dir.path()));
    assert!(found.contains("\"tieline\"") && found.contains("\"xtask\""), "{found:?}");
    // The only ones that an image can do without are other crates' tests, which are found by looking.
    let missing: Vec<_> = all.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    let folder = root().join("deploy/prometheus");
    for words in [["check", "rules", "tieline.rules.yml"], ["test", "rules", "tieline.rules.test.yml"]] {
        let Some(mut promtool) = program("the_alerts_fire_when_they_should", "promtool") else { return };
        succeeds(promtool.args(words).current_dir(&folder));
    }
    // Each has its test.
    let (rules, tests) = (read("deploy/prometheus/tieline.rules.yml"), read("deploy/prometheus/tieline.rules.test.yml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", severity=")), "{alert} has no test");
    }
}

/// Names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
    words.filter(|word| word.starts_with("tieline_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_only_metrics_that_are_documented() {
    let operator = read("docs/operator.md");
    let documented = metrics(operator.split("\n## Metrics\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap());
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/tieline.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked: String = targets.map(|target| format!("{}\n", target["expr"].as_str().unwrap())).collect();
    let rules = read("deploy/prometheus/tieline.rules.yml");
    let used = metrics(&format!("{asked}\n{rules}\n{}", dashboard["templating"]));
    assert!(used.len() > 30, "{used:?}");
    let unknown: Vec<_> = used.iter().filter(|name| !documented.contains(name.trim_end_matches("_bucket"))).collect();
    assert!(unknown.is_empty(), "docs/operator.md does not name {unknown:?}");
}

#[test]
fn every_alert_says_what_to_do_and_where_it_is_written() {
    let headings: BTreeSet<String> = read("docs/operator.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace([',', '?', '\''], ""))
        .collect();
    let rules = read("deploy/prometheus/tieline.rules.yml");
    for rule in rules.split("- alert: ").skip(1) {
        let anchor = rule.rsplit("docs/operator.md#").next().unwrap().split('.').next().unwrap();
        assert!(headings.contains(anchor), "no heading {anchor:?}: {rule}");
        assert!(["severity: warning\n", "severity: critical\n"].iter().any(|severity| rule.contains(severity)), "{rule}");
    }
}

#[test]
fn the_dashboard_asks_the_data_source_that_is_chosen() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/tieline.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|panel| panel["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["Overview", "Traffic", "Store", "Sockets", "Routing", "Webhooks", "Process and upkeep"]);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(target["expr"].as_str().unwrap().contains("job=\"$job\""), "{target}");
        }
    }
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "that of Grafana 10");
}
