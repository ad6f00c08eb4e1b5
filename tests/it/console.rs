//! The agents' console and the customer's playground, in a real browser, served by the gateway as it is shipped.

use crate::support::*;
use std::path::{Path, PathBuf};
use std::process::Command;

fn clients(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// Runs a script of `tests/clients` against a gateway of its own with the demo account, to a good end.
async fn in_browser(name: &str, script: &str) {
    let needs = clients("node_modules/axe-core");
    let has_chromium = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_chromium || !needs.exists() {
        assert!(std::env::var_os("TIELINE_CLIENTS").is_none(), "chromium or {} is missing, and was to be installed", needs.display());
        println!("SKIPPED {name}: chromium or {} is missing; `cargo xtask test` installs them", needs.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start_with(dir.path(), free_port(), &[], "").await;
    let address = format!("http://{}", server.address);
    let script = script.to_owned();
    let run = move || output(Command::new("node").arg(&script).current_dir(clients("")).env("TIELINE_HTTP", address), LONG);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{}", said.trim());
    assert!(output.status.success() && said.contains("ok "), "{name}: {said}\n{wrong}");
}

#[tokio::test]
async fn two_agents_and_a_customer_talk_in_three_browsers_through_cuts_keys_and_hostile_texts() {
    in_browser("console (with chromium)", "console.mjs").await;
}

#[tokio::test]
async fn a_history_of_fifty_thousand_messages_is_scrolled_through_to_its_beginning() {
    in_browser("console-history (with chromium)", "console_history.mjs").await;
}

#[tokio::test]
async fn the_consoles_files_come_with_a_strict_policy_and_nothing_else_is_served() {
    let server = TestServer::start().await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = |path: &str| client.get(server.api().url(path)).send();
    let to = get("/console").await.unwrap();
    assert_eq!((to.status().as_u16(), to.headers()["location"].to_str().unwrap()), (308, "/console/"));
    let mut seen = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("console")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/console")).unwrap().to_str().unwrap().to_owned();
            let reply = get(&format!("/console/{name}")).await.unwrap();
            let kind = match path.extension().unwrap().to_str().unwrap() {
                "html" => "text/html; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "js" => "text/javascript; charset=utf-8",
                "svg" => "image/svg+xml",
                // Licences and notes stay in the repository.
                _ => {
                    assert_eq!(reply.status(), 404, "{name}");
                    continue;
                }
            };
            let headers = reply.headers().clone();
            assert_eq!((reply.status().as_u16(), headers["content-type"].to_str().unwrap()), (200, kind), "{name}");
            let policy = headers["content-security-policy"].to_str().unwrap();
            for part in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"] {
                assert!(policy.contains(part) && !policy.contains("unsafe"), "{name}: {policy}");
            }
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(reply.bytes().await.unwrap(), std::fs::read(&path).unwrap(), "{name}");
            let again = client.get(server.api().url(&format!("/console/{name}"))).header("if-none-match", &headers["etag"]).send().await;
            assert_eq!(again.unwrap().status(), 304, "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen}");
    for path in ["/console/../config.toml", "/console/%2e%2e/config.toml", "/console/none.js", "/console/vendor", "/console//etc/passwd"] {
        assert_eq!(get(path).await.unwrap().status(), 404, "{path}");
    }
    let index = get("/console/").await.unwrap().text().await.unwrap();
    assert!(index.contains("<!doctype html>") || index.contains("<!DOCTYPE html>"), "{index:.100}");
    assert!(get("/console/playground").await.unwrap().status().is_success());
}
