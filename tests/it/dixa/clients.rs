//! Programs that others wrote for Dixa, as they are.

use super::{Dixa, NOBODY, People, chat, open, people};
use crate::programs::{clients, is_ready};
use crate::support::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const KEY: &str = "account-key";
/// The one host that the tap knows.
const HOST: &str = "dev.dixa.io";

/// The usual configuration with a key, two tags, and addresses of agents that clients take for such.
fn config(more: &str) -> String {
    let key = format!("[[accounts.api_keys]]\ndialect = \"dixa\"\nkey = \"{KEY}\"\nper_second = 10000\n");
    let tags = "[[accounts.tags]]\nid = \"vip\"\nname = \"VIP\"\ncolor = \"#1e90ff\"\n[[accounts.tags]]\nid = \"old\"\nname = \"Old\"\nactive = false\n";
    let config = CONFIG.replacen("[accounts.survey]", &format!("{key}{tags}[accounts.survey]"), 1);
    let config = ["ada", "grace", "bea"].iter().fold(config, |config, login| {
        let line = format!("login = \"{login}\"\n");
        config.replacen(&line, &format!("{line}email = \"{login}@shop.example\"\n"), 1)
    });
    format!("{more}\n{config}")
}

/// Runs a script of the clients' folder with a Python of its own to a good end.
fn run(script: &str, python: &Path, set: &[(&str, &str)]) {
    let mut command = Command::new(python);
    command.arg(script).current_dir(clients("")).env("TIELINE_KEY", KEY).envs(set.iter().copied());
    let output = output(&mut command, LONG);
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{}", said.trim());
    assert!(output.status.success() && said.contains("ok "), "{script}: {said}\n{wrong}");
}

#[tokio::test]
async fn the_public_python_client_reads_and_writes_people_and_tags() {
    let python = clients(".venv-dixa/bin/python");
    if !is_ready("dixa", &python, true) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config("")).await;
    run("dixa_sdk.py", &python, &[("TIELINE_HTTP", &server.api().url("")), ("NO_PROXY", "*")]);
}

/// Writes a CA that a client is to trust, and a certificate for the tap's host.
fn certify(folder: &Path) {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "A CA of a test");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let mut leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, HOST);
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("leaf.pem"), leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).unwrap().pem()).unwrap();
    std::fs::write(folder.join("leaf.key"), leaf_key.serialize_pem()).unwrap();
}

/// Leads whoever asks for the tap's host to another address, and nobody anywhere else.
async fn lead(mut from: TcpStream, to: SocketAddr) {
    let mut wanted = String::new();
    let mut reader = BufReader::new(&mut from);
    let mut line = String::new();
    while reader.read_line(&mut line).await.is_ok_and(|bytes| bytes > 2) {
        wanted.push_str(&std::mem::take(&mut line));
    }
    if !wanted.starts_with(&format!("CONNECT {HOST}:443 ")) {
        let _ = from.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    let mut there = TcpStream::connect(to).await.unwrap();
    from.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    // Either may leave as it likes.
    let _ = copy_bidirectional(&mut from, &mut there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_singer_tap_takes_the_activity_log_and_goes_on_from_its_bookmark() {
    let python = clients(".venv-tap-dixa/bin/python");
    if !is_ready("tap-dixa", &python, true) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certify(dir.path());
    let tls = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let section = format!("[server.tls]\nlisten = \"{tls}\"\ncert = \"{}\"\nkey = \"{}\"\n", path("leaf.pem"), path("leaf.key"));
    let server = TestProcess::start_with(dir.path(), free_port(), &[], &config(&section)).await;
    let dixa = Dixa::with(&server.api(), KEY);
    let People { ada, ann, speaker, .. } = people(&dixa).await;
    let (id, number) = open(&dixa, &speaker, "-1", "hello").await;
    let mut socket = server.api().agent("grace", "2").await;
    assert_eq!(socket.ask(&add_agent("1", &id, "ASSIGNED_AGENT")).await["code"], 200);
    assert_eq!(socket.ask(&publish("2", &id, "hi")).await["code"], 200);
    let tag = dixa.data("/tags").await[0]["id"].as_str().unwrap().to_owned();
    dixa.done("PUT", &format!("/conversations/{number}/tags/{tag}")).await;
    let other = dixa.begin(&chat(&ann, "hello")).await;
    assert_eq!(dixa.put(&format!("/conversations/{other}/claim"), &json!({"agentId": ada})).await.status, 204);
    dixa.made("POST", &format!("/conversations/{other}/notes"), &json!({"message": "a note", "agentId": ada}), 200).await;
    dixa.refused("PUT", &format!("/conversations/{other}/tags/{NOBODY}"), &json!({}), 404).await;
    dixa.done("PUT", &format!("/conversations/{other}/close")).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut leading = JoinSet::new();
    leading.spawn(async move {
        let mut all = JoinSet::new();
        loop {
            let (from, _) = proxy.accept().await.unwrap();
            all.spawn(lead(from, tls));
        }
    });
    let set = [("HTTPS_PROXY", address), ("REQUESTS_CA_BUNDLE", path("ca.pem")), ("NO_PROXY", String::new())];
    let ran = tokio::task::spawn_blocking(move || {
        let set = set.each_ref().map(|(name, value)| (*name, value.as_str()));
        run("tap_dixa.py", &python, &set);
    });
    ran.await.unwrap();
}
