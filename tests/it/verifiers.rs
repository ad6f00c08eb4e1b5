//! The verifiers that `docs/webhooks` offers, on its test vectors and on what the gateway really sends.

use crate::sink::Sink;
use crate::support::*;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

#[path = "../../docs/webhooks/verify.rs"]
mod verify;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/webhooks");
const BODIES: usize = 1_000;

/// What a verifier is asked: one line of the programs' input.
fn question(secrets: &Value, client_secret: &str, now: i64, headers: Map<String, Value>, body: &[u8]) -> Value {
    json!({"secrets": secrets, "client_secret": client_secret, "now": now, "headers": headers, "body": STANDARD.encode(body)})
}

fn in_rust(question: &Value) -> String {
    let secrets: Vec<&str> = question["secrets"].as_array().unwrap().iter().map(|secret| secret.as_str().unwrap()).collect();
    let body = STANDARD.decode(question["body"].as_str().unwrap()).unwrap();
    let header = |name: &str| question["headers"][name].as_str();
    let standard = verify::verify_standard(&secrets, header, &body, question["now"].as_i64().unwrap());
    let vendor = header("x-liveperson-signature").unwrap_or_default();
    let vendor = verify::verify_vendor(question["client_secret"].as_str().unwrap(), vendor, &body);
    let word = |is_good: bool| if is_good { "ok" } else { "no" };
    format!("{} {}", word(standard), word(vendor))
}

/// What another language's verifier says to each line; nothing, if the language is not installed.
fn by_program(program: &str, file: &str, lines: String) -> Option<Vec<String>> {
    let mut child = match Command::new(program).arg(format!("{FOLDER}/{file}")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            // Where `cargo xtask test` has installed what the suites need, both languages are there.
            assert!(std::env::var_os("TIELINE_CLIENTS").is_none(), "{file}: {program}: {error}");
            println!("SKIPPED verifiers::{file}: {program}: {error}");
            return None;
        }
    };
    let mut input = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = output_of(child, file, LONG);
    writing.join().unwrap();
    assert!(output.status.success(), "{file}: {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// The verdicts of every verifier that there is, by its name.
fn verdicts(questions: &[Value]) -> Vec<(&'static str, Vec<String>)> {
    let mut all = vec![("verify.rs", questions.iter().map(in_rust).collect())];
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    for (program, file) in [("python3", "verify.py"), ("node", "verify.mjs")] {
        all.extend(by_program(program, file, lines.clone()).map(|said| (file, said)));
    }
    all
}

fn headers(vector: &Value, vendors: &str) -> Map<String, Value> {
    let timestamp = vector["timestamp"].to_string();
    let all = json!({"webhook-id": vector["id"], "webhook-timestamp": timestamp, "webhook-signature": vector["webhook_signature"],
        "x-liveperson-signature": vector[vendors]});
    all.as_object().unwrap().clone()
}

fn algorithm(vendors: &str) -> hmac::Algorithm {
    if vendors == "sha1" { hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY } else { hmac::HMAC_SHA256 }
}

#[test]
fn every_vector_is_accepted_by_each_verifier_and_nothing_else_is() {
    let text = std::fs::read_to_string(format!("{FOLDER}/vectors.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() >= 14);
    let mut asked: Vec<(String, Value, &str)> = Vec::new();
    for vector in &vectors {
        let body = STANDARD.decode(vector["body_base64"].as_str().unwrap()).unwrap();
        assert_eq!(body, vector["body"].as_str().unwrap().as_bytes(), "{}", vector["name"]);
        let (now, client) = (vector["timestamp"].as_i64().unwrap(), vector["client_secret"].as_str().unwrap());
        let good = |vendors: &str| question(&vector["secrets"], client, now, headers(vector, vendors), &body);
        let name = |what: &str| format!("{}: {what}", vector["name"]);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut changed = good("sha256");
            change(&mut changed);
            changed
        };
        let header = |header: &str, value: &str| with(&|one| one["headers"][header] = json!(value));
        let flipped = |text: &Value| {
            let mut bytes = text.as_str().unwrap().as_bytes().to_vec();
            let place = bytes.len() - 2;
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        for vendors in ["sha1", "sha256"] {
            let mut change = |what: &str, place: &str, value: Value, expected| {
                let mut changed = good(vendors);
                *changed.pointer_mut(place).unwrap() = value;
                asked.push((name(&format!("{vendors}: {what}")), changed, expected));
            };
            change("as it came", "/body", json!(STANDARD.encode(&body)), "ok ok");
            change("another body", "/body", json!(STANDARD.encode([&body[..], b" "].concat())), "no no");
            if let Some((first, rest)) = body.split_first() {
                change("a bit of the body", "/body", json!(STANDARD.encode([&[first ^ 1], rest].concat())), "no no");
            }
            change("another vendor's signature", "/headers/x-liveperson-signature", json!(flipped(&vector[vendors])), "ok no");
            change("another client secret", "/client_secret", json!(format!("{client}x")), "ok no");
            let nobodys = hmac::sign(&hmac::Key::new(algorithm(vendors), b""), &body);
            let mut unset = good(vendors);
            unset["client_secret"] = json!("");
            unset["headers"]["x-liveperson-signature"] = json!(format!("{vendors}={}", STANDARD.encode(nobodys)));
            asked.push((name(&format!("{vendors}: no client secret, and a signature by nothing")), unset, "ok no"));
        }
        let signed = [format!("{}.{now}.", vector["id"].as_str().unwrap()).as_bytes(), &body].concat();
        let nobodys = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), &signed));
        for unset in ["", "whsec_"] {
            let mut one = header("webhook-signature", &format!("v1,{nobodys}"));
            one["secrets"] = json!([unset]);
            asked.push((name("no secret, and a signature by nothing"), one, "no ok"));
        }
        asked.push((name("another id"), header("webhook-id", &flipped(&vector["id"])), "no ok"));
        asked.push((name("another time"), header("webhook-timestamp", &(now + 1).to_string()), "no ok"));
        asked.push((name("no time"), header("webhook-timestamp", "soon"), "no ok"));
        asked.push((name("a time without end"), header("webhook-timestamp", &"9".repeat(5_000)), "no ok"));
        asked.push((name("too old"), with(&|one| one["now"] = json!(now + 301)), "no ok"));
        asked.push((name("too young"), with(&|one| one["now"] = json!(now - 301)), "no ok"));
        asked.push((name("just in time"), with(&|one| one["now"] = json!(now + 300)), "ok ok"));
        let signature = vector["webhook_signature"].as_str().unwrap();
        let broken: Vec<String> = signature.split(' ').map(|one| flipped(&json!(one))).collect();
        asked.push((name("another signature"), header("webhook-signature", &broken.join(" ")), "no ok"));
        asked.push((name("one good among others"), header("webhook-signature", &format!("v2,x v1, {} {signature}", broken[0])), "ok ok"));
        asked.push((name("an unknown version"), header("webhook-signature", &signature.replace("v1,", "v1a,")), "no ok"));
        asked.push((name("none"), header("webhook-signature", ""), "no ok"));
        asked.push((name("no headers"), with(&|one| one["headers"] = json!({})), "no no"));
        asked.push((
            name("another name"),
            header("x-liveperson-signature", &vector["sha256"].as_str().unwrap().replace("sha256", "md5")),
            "ok no",
        ));
        let strange = format!("whsec_{}", STANDARD.encode([7_u8; 32]));
        asked.push((name("another secret"), with(&|one| one["secrets"] = json!([strange])), "no ok"));
        let both = json!([strange, vector["secrets"][0]]);
        asked.push((name("a second secret"), with(&|one| one["secrets"] = both.clone()), "ok ok"));
        // A fourth opinion: it signs as the vector is signed, and the verifiers accept what it signs now.
        let sign = |secret: &Value, at: i64| {
            let library = standardwebhooks::Webhook::new(secret.as_str().unwrap()).unwrap();
            library.sign(vector["id"].as_str().unwrap(), at, &body).unwrap()
        };
        let each: Vec<String> = vector["secrets"].as_array().unwrap().iter().map(|secret| sign(secret, now)).collect();
        assert_eq!(each.join(" "), signature, "{}", vector["name"]);
        let now = jiff::Timestamp::now().as_second();
        let signed = sign(&vector["secrets"][0], now);
        let mut fresh = headers(vector, "sha1");
        fresh.extend([("webhook-timestamp".to_owned(), json!(now.to_string())), ("webhook-signature".to_owned(), json!(signed))]);
        asked.push((name("signed by a library"), question(&vector["secrets"], client, now, fresh, &body), "ok ok"));
    }
    let questions: Vec<Value> = asked.iter().map(|(_, question, _)| question.clone()).collect();
    for (verifier, said) in verdicts(&questions) {
        assert_eq!(said.len(), asked.len(), "{verifier}");
        for ((name, _, expected), said) in asked.iter().zip(&said) {
            assert_eq!(said, expected, "{verifier}: {name}");
        }
        println!("webhooks: {verifier}: {} questions about {} vectors answered rightly", said.len(), vectors.len());
    }
}

/// Frameworks of these two languages may hand over a byte that is not UTF-8 as half a character. Rust's strings cannot hold one.
#[test]
fn half_a_character_in_a_header_is_refused() {
    let secrets = json!([format!("whsec_{}", STANDARD.encode([7_u8; 32]))]);
    let all = json!({"webhook-id": "log:HALF", "webhook-timestamp": "1700000000", "webhook-signature": "v1,HALF",
        "x-liveperson-signature": "sha1=HALF"});
    let one = question(&secrets, "secret", 1_700_000_000, all.as_object().unwrap().clone(), b"{}");
    let line = format!("{one}\n").replace("HALF", "\\udcff");
    for (program, file) in [("python3", "verify.py"), ("node", "verify.mjs")] {
        if let Some(said) = by_program(program, file, line.clone()) {
            assert_eq!(said, ["no no"], "{file}");
        }
    }
}

/// A stranger's list is refused, however long, before a verifier that signs anew for each of it is halfway.
#[test]
fn a_list_of_signatures_costs_no_more_than_one() {
    let secrets = json!([format!("whsec_{}", STANDARD.encode([7_u8; 32]))]);
    let list = vec!["v1,"; 100_000].join(" ");
    let all = json!({"webhook-id": "log:1", "webhook-timestamp": "1700000000", "webhook-signature": list});
    let one = question(&secrets, "secret", 1_700_000_000, all.as_object().unwrap().clone(), &vec![b'x'; 1 << 20]);
    let began = std::time::Instant::now();
    for (verifier, said) in verdicts(&[one]) {
        assert_eq!(said, ["no no"], "{verifier}");
    }
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
}

/// Texts of every kind of character that there is.
struct Texts(u64);

impl Texts {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn character(&mut self) -> char {
        let hostile = [
            '"', '\\', '/', '\n', '\r', '\t', '\u{8}', '\u{7f}', '\u{80}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{feff}', '\u{301}',
            '\u{fffd}', '\u{ffff}', '🦀', '<', '&', '\'',
        ];
        match self.throw(4) {
            0 => hostile[self.throw(hostile.len() as u64) as usize],
            1 => char::from(self.throw(128) as u8),
            _ => loop {
                if let Some(any) = char::from_u32(self.throw(0x0011_0000) as u32) {
                    return any;
                }
            },
        }
    }

    fn text(&mut self) -> String {
        // What looks like an escape, whole or half, and what is one only together.
        let pieces = ["\\ud83e", "\\udd80", "\\u0000", "\\\"", "\\/", "\r\n", "👩\u{200d}👧", "\u{2066}x\u{2069}", "e\u{301}", "\"}}]}}"];
        let length = if self.throw(50) == 0 { 1 + self.throw(6_980) as usize } else { 1 + self.throw(60) as usize };
        let (mut text, mut count) = (String::new(), 0);
        while count < length {
            let before = text.len();
            match self.throw(16) {
                0 => text.push_str(pieces[self.throw(pieces.len() as u64) as usize]),
                _ => text.push(self.character()),
            }
            count += text[before..].chars().count();
        }
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_random_bodies_are_verified_by_all() {
    let seed = std::env::var("TIELINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126_u64);
    let mut texts = Texts(seed);
    let secrets: Vec<String> = [1_u8, 2].iter().map(|byte| format!("whsec_{}", STANDARD.encode([*byte; 32]))).collect();
    let mut sink = Sink::open().await;
    let lines = format!(
        "capabilities = [\"webhooks\"]\nwebhook_secrets = [\"{}\", \"{}\"]\nwebhooks = [{{ event = \"ms.MessagingEventNotification.ContentEvent\", endpoint = \"{}\" }}]\n",
        secrets[0],
        secrets[1],
        sink.url("/lp")
    );
    let server = TestServer::with(&format!("# app demo-connector\n{lines}")).await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let (mut sent, mut refused) = (Vec::new(), 0);
    while sent.len() < BODIES {
        let text = texts.text();
        let reply = ann.post(SEND, publish("1", &id, &text).to_string()).await;
        match reply.status {
            200 => sent.push(text),
            400 if refused < BODIES => refused += 1,
            other => panic!("{other}: {}", reply.text),
        }
    }
    sink.until("all come", Duration::from_secs(60), |hits| hits.len() == BODIES).await;
    let hits = sink.hits();
    let mut questions = Vec::new();
    for (hit, text) in hits.iter().zip(&sent) {
        assert_eq!(hit.change()["event"]["message"], **text, "what was said came");
        let headers: Map<String, Value> =
            hit.headers.iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap()))).collect();
        let now: i64 = hit.header("webhook-timestamp").parse().unwrap();
        // In turns the one secret, the other, and both.
        let known = [json!([secrets[0]]), json!([secrets[1]]), json!(secrets)][questions.len() % 3].clone();
        questions.push(question(&known, "demo-connector-secret", now, headers, &hit.body));
    }
    for (verifier, said) in verdicts(&questions) {
        let mismatches = said.iter().filter(|said| *said != "ok ok").count();
        println!(
            "webhooks: {verifier}: {} random bodies, both signatures: {mismatches} mismatches (seed {seed}, {refused} texts refused by the gateway)",
            said.len()
        );
        assert_eq!((said.len(), mismatches), (BODIES, 0), "{verifier}");
    }
}
