//! What is wrong gets a clear answer, loses nothing, and no other socket notices.

use crate::support::*;
use futures::SinkExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Frames that are no good, each with what the answer must say.
fn corpus(id: &str) -> Vec<(String, &'static str)> {
    let deep = format!("{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"ms.PublishEvent\",\"body\":{}{}}}", "[".repeat(70), "]".repeat(70));
    let body = |body: &str| format!("{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"ms.PublishEvent\",\"body\":{body}}}");
    let event = |event: &str| body(&format!("{{\"dialogId\":\"{id}\",\"event\":{event}}}"));
    let field = |field: &str| {
        format!(
            "{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"cm.UpdateConversationField\",\"body\":{{\"conversationId\":\"{id}\",\"conversationField\":{field}}}}}"
        )
    };
    vec![
        ("".into(), "not a JSON request"),
        ("{".into(), "not a JSON request"),
        ("hello".into(), "must be an object"),
        ("null".into(), "must be an object"),
        ("[1,2]".into(), "n"),
        ("{\"kind\":\"req\",\"id\":\"x\"".into(), "EOF"),
        ("{\"id\":\"x\"}".into(), "no kind"),
        ("{\"kind\":\"resp\",\"id\":\"x\",\"type\":\"GetClock\"}".into(), "kind must be"),
        ("{\"kind\":7,\"id\":\"x\",\"type\":\"GetClock\"}".into(), "no kind"),
        ("{\"kind\":\"req\",\"kind\":\"req\",\"id\":\"x\",\"type\":\"GetClock\"}".into(), "duplicate field"),
        ("{\"kind\":\"req\",\"type\":\"GetClock\"}".into(), "no id"),
        ("{\"kind\":\"req\",\"id\":null,\"type\":\"GetClock\"}".into(), "id"),
        ("{\"kind\":\"req\",\"id\":\"x\"}".into(), "no type"),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"Nonsense\"}".into(), "Nonsense"),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"GetClock\",\"headers\":7}".into(), "headers"),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"GetClock\",\"metadata\":\"x\"}".into(), "metadata"),
        (format!("{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"GetClock\",\"encodedMetadata\":\"{}\"}}", "a".repeat(6000)), "5120"),
        (format!("{{\"kind\":\"req\",\"id\":\"{}\",\"type\":\"GetClock\"}}", "i".repeat(65)), "64 characters"),
        (deep, "deeper than 64"),
        (body("7"), "not understood"),
        (body("[]"), "must be an object"),
        (body("{}"), "dialogId is missing"),
        (body(&format!("{{\"dialogId\":\"{id}\"}}")), "event is missing"),
        (body("{\"dialogId\":7,\"event\":{}}"), "not understood"),
        (event("7"), "must be an object"),
        (event("{}"), "event.type is missing"),
        (event("{\"type\":\"ContentEvent\"}"), "message is missing"),
        (event("{\"type\":\"ContentEvent\",\"message\":{}}"), "must be a string"),
        (event("{\"type\":\"ContentEvent\",\"message\":\"\\ud83d\"}"), "surrogate"),
        (event(&format!("{{\"type\":\"ContentEvent\",\"message\":\"{}\"}}", "a".repeat(8001))), "the limit is 8000"),
        (
            event(&format!("{{\"type\":\"RichContentEvent\",\"content\":{{\"type\":\"text\",\"text\":\"{}\"}}}}", "a".repeat(15_000))),
            "the limit is 15000",
        ),
        (event("{\"type\":\"AcceptStatusEvent\",\"status\":\"READ\"}"), "sequenceList is missing"),
        (event("{\"type\":\"AcceptStatusEvent\",\"status\":\"READ\",\"sequenceList\":[-1]}"), "sequenceList must be"),
        (event("{\"type\":\"ChatStateEvent\"}"), "chatState is missing"),
        (
            body(&format!(
                "{{\"dialogId\":\"{id}\",\"messageAudience\":\"NOBODY\",\"event\":{{\"type\":\"ContentEvent\",\"message\":\"x\"}}}}"
            )),
            "messageAudience",
        ),
        (field("[]"), "conversationField is missing"),
        (field("7"), "not understood"),
        (field("{}"), "conversationField.field is missing"),
        (field("{\"field\":\"CSATRate\",\"csatRate\":\"many\"}"), "0 to 5"),
        (field("{\"field\":\"CSATRate\",\"csatRate\":99999999999999999999}"), "not understood"),
        (field("{\"field\":\"TTRField\",\"ttrType\":\"SOON\"}"), "ttrType"),
        (field("{\"field\":\"ConversationStateField\",\"conversationState\":\"OPEN\"}"), "only be set to CLOSE"),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"ms.SubscribeMessagingEvents\",\"body\":{\"fromSeq\":0}}".into(), "dialogId is missing"),
        (
            format!(
                "{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"ms.SubscribeMessagingEvents\",\"body\":{{\"dialogId\":\"{id}\",\"fromSeq\":-1}}}}"
            ),
            "not understood",
        ),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"userprofile.SetUserProfile\",\"body\":[]}".into(), "must be an object"),
        (
            "{\"kind\":\"req\",\"id\":\"x\",\"type\":\"cm.ConsumerRequestConversation\",\"body\":{\"skillId\":\"nowhere\"}}".into(),
            "Skill nowhere",
        ),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"cm.ConsumerRequestConversation\",\"body\":{\"brandId\":\"other\"}}".into(), "brandId"),
        (
            "{\"kind\":\"req\",\"id\":\"x\",\"type\":\"cm.ConsumerRequestConversation\",\"body\":{\"ttrDefName\":\"LATER\"}}".into(),
            "ttrDefName",
        ),
        (field("{\"field\":\"TTRField\",\"ttrType\":\"CUSTOM\",\"value\":100000000000000000}"), "seconds"),
        (
            format!(
                "{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"cm.ConsumerRequestConversation\",\"body\":{{\"brandId\":\"demo\",\"conversationContext\":{{\"x\":\"{}\"}}}}}}",
                "c".repeat(9000)
            ),
            "conversationContext has more than",
        ),
        (
            format!("{{\"kind\":\"req\",\"id\":\"x\",\"type\":\"ms.QueryMessages\",\"body\":{{\"dialogId\":\"{}\"}}}}", "d".repeat(129)),
            "more than 128 characters",
        ),
        ("{\"kind\":\"req\",\"id\":\"x\",\"type\":\"cqm.SubscribeExConversations\",\"body\":{\"stage\":[\"AJAR\"]}}".into(), "AJAR"),
    ]
}

#[tokio::test]
async fn bad_frames_get_one_clear_reply_each_and_the_socket_goes_on() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut bystander = ann.consumer_socket().await;
    let mut socket = ann.consumer_socket().await;
    let corpus = corpus(&id);
    for (text, reason) in &corpus {
        socket.send_text(text.clone()).await;
        let answer = socket.frame().await;
        let shown: String = text.chars().take(120).collect();
        assert_eq!(
            (&answer["kind"], &answer["code"], &answer["type"]),
            (&json!("resp"), &json!(400), &json!("StringResponse")),
            "{shown}: {answer}"
        );
        assert!(answer["body"].as_str().unwrap().contains(reason), "{shown}: {answer}");
        let has_id = text.contains("\"id\":\"x\"")
            && !text.contains("EOF")
            && !reason.contains("deeper")
            && !reason.contains("surrogate")
            && *reason != "EOF";
        assert_eq!(answer["reqId"] == "x", has_id, "{shown}: {answer}");
        // A good one in between, so that the bad ones are not in a row.
        assert_eq!(socket.ask(&request("ok", "GetClock", json!({}))).await["code"], 200, "{shown}");
    }
    // The same over HTTP.
    for (text, _) in &corpus {
        let reply = ann.post(SEND, text.clone()).await;
        assert_eq!(reply.status, 400, "{text:.120}: {}", reply.text);
        assert!([40001, 40002, 40003].contains(&reply.error_code()), "{text:.120}: {}", reply.text);
    }
    assert_eq!(bystander.ask(&publish("p", &id, "untouched")).await["body"]["sequence"], 0, "nothing was stored, and nobody noticed");
    println!("bad input: {} cases over two transports, 0 panics", corpus.len());
}

#[tokio::test]
async fn many_bad_frames_in_a_row_end_the_connection() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let mut socket = ann.consumer_socket().await;
    for _ in 0..10 {
        socket.send_text("{").await;
    }
    let (code, frames) = socket.closed().await;
    assert_eq!((code, frames.len()), (1008, 10), "each is answered, then the socket is closed");
}

#[tokio::test]
async fn any_text_survives_unchanged() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let texts = [
        "emoji 😀👩‍👩‍👧",
        "nul \u{0} here",
        "line\u{2028}separator\u{2029}",
        "bidi \u{202e}txt\u{202c}",
        "quote \" back \\ slash",
        "\u{7f}\u{80}\u{feff}",
        "\n\r\t",
    ];
    for text in texts {
        ann.say(&id, text).await;
    }
    // Escapes stay as they were written: the event's own text is stored and sent.
    let raw = r#"{"kind":"req","id":"1","type":"ms.PublishEvent","body":{"dialogId":"ID","event":{"type":"ContentEvent","message":"\u00e9\/\ud83d\ude00","extra":{"n":1.50e3,"a":[ 1 ,2]}}}}"#;
    assert_eq!(ann.post(SEND, raw.replace("ID", &id)).await.status, 200);
    let mut agent = server.api().agent("ada", "3").await;
    agent.send(&follow("f", &id, 0)).await;
    let mut seen = Vec::new();
    let mut last = String::new();
    while seen.len() < texts.len() + 1 {
        let coming = futures::StreamExt::next(&mut agent.socket);
        let message = tokio::time::timeout(SOON, coming).await.expect("it comes soon").unwrap().unwrap();
        if let Message::Text(text) = message {
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            seen.extend(
                frame["body"]["changes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|change| change["event"]["message"].as_str().unwrap().to_owned()),
            );
            last = text.to_string();
        }
    }
    assert_eq!(seen[..texts.len()], texts);
    assert!(last.contains(r#"{"type":"ContentEvent","message":"\u00e9\/\ud83d\ude00","extra":{"n":1.50e3,"a":[ 1 ,2]}}"#), "{last}");
}

/// Sends frames that the client library would not, and reads the close code.
async fn closed_after(ann: &Speaker, frames: Vec<Message>) -> u16 {
    let mut socket = ann.consumer_socket().await;
    for frame in frames {
        let _ = socket.socket.send(frame).await;
    }
    socket.closed().await.0
}

/// Sends raw bytes on an upgraded connection, and reads the close code.
async fn closed_after_bytes(ann: &Speaker, bytes: &[u8]) -> u16 {
    let mut socket = ann.consumer_socket().await;
    if let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.socket.get_mut() {
        stream.write_all(bytes).await.unwrap();
    }
    socket.closed().await.0
}

fn raw(payload: &[u8], opcode: OpCode, is_final: bool) -> Message {
    Message::Frame(Frame::from_payload(FrameHeader { is_final, opcode, ..FrameHeader::default() }, Bytes::copy_from_slice(payload)))
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_with_their_code_and_nobody_else_notices() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut bystander = ann.consumer_socket().await;
    let big = "x".repeat(70_000);
    let text = OpCode::Data(Data::Text);
    let more = OpCode::Data(Data::Continue);
    for (name, frames, code) in [
        ("binary", vec![Message::binary(vec![1, 2, 3])], 1003),
        ("too big", vec![Message::text(big.clone())], 1009),
        ("too big in fragments", vec![raw(&[b'x'; 40_000], text, false), raw(&[b'x'; 40_000], more, true)], 1009),
        ("a fragment of nothing", vec![raw(b"x", more, true)], 1002),
        ("a text within a text", vec![raw(b"x", text, false), raw(b"x", text, true)], 1002),
        ("bad UTF-8", vec![raw(&[0xff, 0xfe], text, true)], 1007),
        ("bad UTF-8 over fragments", vec![raw(&[0xe2, 0x82], text, false), raw(b"x", more, true)], 1007),
        ("a reserved opcode", vec![raw(b"x", OpCode::Data(Data::Reserved(3)), true)], 1002),
        ("a reserved control", vec![raw(b"x", OpCode::Control(Control::Reserved(11)), true)], 1002),
    ] {
        assert_eq!(closed_after(&ann, frames).await, code, "{name}");
    }
    for (name, bytes, code) in [
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("a reserved bit", vec![0xc1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("a ping in fragments", vec![0x09, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("a long ping", [vec![0x89, 0x80 | 126, 0, 126, 0, 0, 0, 0], vec![b'x'; 126]].concat(), 1002),
        ("too big by its head", vec![0x81, 0x80 | 127, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
        ("a close of one byte", vec![0x88, 0x81, 0, 0, 0, 0, 1], 1002),
    ] {
        assert_eq!(closed_after_bytes(&ann, &bytes).await, code, "{name}");
    }
    // A message in fragments with a ping between is one message.
    let mut socket = ann.consumer_socket().await;
    let frame = request("c", "GetClock", json!({})).to_string();
    let (one, two) = frame.split_at(10);
    for part in [raw(one.as_bytes(), text, false), Message::Ping(Bytes::from_static(b"between")), raw(two.as_bytes(), more, true)] {
        socket.socket.send(part).await.unwrap();
    }
    assert_eq!(socket.response("c").await["code"], 200);
    assert_eq!(bystander.ask(&publish("p", &id, "untouched")).await["code"], 200);
}

/// Reads until something was said, for as long as that may take.
async fn heard(stream: &mut TcpStream, what: &str) -> String {
    let mut said = Vec::new();
    let listen = async {
        while !String::from_utf8_lossy(&said).contains(what) {
            let mut some = [0; 1024];
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "it ends with {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&some[..read]);
        }
    };
    tokio::time::timeout(SOON, listen).await.expect("it is said soon");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn an_upgrade_is_the_same_whole_in_pieces_and_after_another_request() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let head = format!(
        "GET /ws_api/account/{ACCOUNT}/messaging/consumer?v=3 HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: {}\r\nx-lp-on-behalf: {}\r\n\r\n",
        ann.app, ann.jws
    );
    // A request of the socket, masked with nothing, that does not wait for the reply to the upgrade.
    let text = request("early", "GetClock", json!({})).to_string();
    let frame = [vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0], text.into_bytes()].concat();
    let before = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for (name, pieces) in [
        ("whole", vec![[head.as_bytes(), &frame].concat()]),
        ("cut in its head", vec![head.as_bytes()[..40].to_vec(), [&head.as_bytes()[40..], &frame].concat()]),
        ("cut before its end", vec![head.as_bytes()[..head.len() - 2].to_vec(), b"\r\n".to_vec(), frame.clone()]),
        ("cut in the frame", vec![[head.as_bytes(), &frame[..9]].concat(), frame[9..].to_vec()]),
    ] {
        for is_second in [false, true] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            if is_second {
                stream.write_all(before.as_bytes()).await.unwrap();
                heard(&mut stream, "200 OK").await;
            }
            for piece in &pieces {
                stream.write_all(piece).await.unwrap();
                // Read by itself, most of the time: nothing hangs on it.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let said = heard(&mut stream, "currentTime").await;
            assert!(
                said.contains("101 Switching Protocols") && said.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                "{name} {is_second}: {said}"
            );
        }
    }
    // Whoever is not let in is told so, and may ask again on the same connection.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.replace(&format!("authorization: {}", ann.app), "authorization: x").as_bytes()).await.unwrap();
    heard(&mut stream, "40").await;
    stream.write_all(before.as_bytes()).await.unwrap();
    heard(&mut stream, "200 OK").await;
    let metrics = server.api().get("/metrics").await.text;
    let counted =
        |line: &&str| line.starts_with("tieline_http_requests_total{") && line.contains("messaging/consumer\"") && line.contains("\"101\"");
    let counts: Vec<&str> = metrics.lines().filter(counted).collect();
    assert_eq!(counts.len(), 1, "{counts:?}");
}

#[tokio::test]
async fn http_that_is_wrong_gets_a_clear_answer() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let too_big = ann.post(SEND, "x".repeat(70_000)).await;
    assert_eq!((too_big.status, too_big.error_code()), (413, 41301));
    let reply = ann.post(SEND, "\u{feff}{}").await;
    assert_eq!(reply.status, 400);
    let raw = |request: Vec<u8>| {
        let address = server.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&request).await.unwrap();
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
            String::from_utf8_lossy(&answer).into_owned()
        }
    };
    assert!(raw(b"nonsense\r\n\r\n".to_vec()).await.starts_with("HTTP/1.1 400"));
    let long = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 40_000]].concat();
    let answer = raw(long).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    let head = format!(
        "POST /api/account/demo/messaging/consumer/conversation/send?v=3 HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\nx-lp-on-behalf: {}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n",
        ann.app, ann.jws
    );
    assert!(raw([head.into_bytes(), vec![0xff, 0xfe]].concat()).await.contains("not UTF-8"));
    // No upgrade, and upgrades of other kinds.
    let path = format!("/ws_api/account/{ACCOUNT}/messaging/consumer?v=3");
    assert_eq!(ann.api.get(&path).await.status, 400);
    for (path, status) in [
        ("/ws_api/account/nobody/messaging/consumer?v=3", 404),
        ("/ws_api/account/demo/messaging/consumer?v=7", 404),
        ("/ws_api/account/demo/messaging/connector", 404),
        ("/ws_api/account/demo/messaging/brand/x?v=9", 404),
        ("/ws_api/account/demo/messaging/brand/x?v=2.1", 401),
        ("/ws_api/account/demo/messaging/nothing?v=3", 404),
    ] {
        match ann.api.socket(path, &[]).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => assert_eq!(response.status().as_u16(), status, "{path}"),
            other => panic!("{path}: {:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn a_browser_may_connect_from_its_own_and_from_listed_origins() {
    let server = TestServer::with("[server]\nallowed_origins = [\"https://shop.example\"]").await;
    let api = server.api();
    let path = "/ws_api/account/demo/messaging/consumer?v=3";
    let own = format!("http://{}", server.address);
    for (origin, is_allowed) in [
        ("https://shop.example", true),
        (own.as_str(), true),
        ("https://shop.example.evil.example", false),
        ("https://evil.example", false),
        ("http://shop.example", false),
        ("https://shop.example:8443", false),
        ("https://user@shop.example", false),
        ("null", false),
        ("", false),
    ] {
        match api.socket(path, &[("origin", origin)]).await {
            Ok(_) => assert!(is_allowed, "{origin}"),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!((response.status().as_u16(), is_allowed), (403, false), "{origin}")
            }
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}

#[tokio::test]
async fn one_consumer_cannot_grow_without_end() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    // A profile.
    let mut refused = None;
    for number in 0..10 {
        let body = json!({format!("member-{number}"): "p".repeat(20_000)});
        let answer = socket.ask(&request("p", "userprofile.SetUserProfile", body)).await;
        if answer["code"] != 200 {
            refused = Some((number, answer));
            break;
        }
    }
    let (number, answer) = refused.expect("it is refused at some size");
    // The same profile again, as connectors send it each time, is no more than it was.
    let again = json!({"member-0": "p".repeat(20_000)});
    assert_eq!(socket.ask(&request("p", "userprofile.SetUserProfile", again)).await["code"], 200);
    assert!(number == 3 && answer["body"].as_str().unwrap().contains("65536"), "{number}: {answer}");
    // Subscriptions, and what they name.
    let names: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    assert_eq!(socket.ask(&request("s", "cqm.SubscribeExConversations", json!({"agentIds": names}))).await["code"], 400);
    let mut last = json!(null);
    for _ in 0..65 {
        last = socket.ask(&request("s", "cqm.SubscribeExConversations", json!({"conversationId": id}))).await;
    }
    assert_eq!(last["code"], 429, "{last}");
}

#[tokio::test]
async fn large_answers_wait_for_who_reads_them() {
    let server = TestServer::start().await;
    let ann = server.api().speaker("ann").await;
    let id = ann.open().await;
    let mut socket = ann.consumer_socket().await;
    let mut large = publish("l", &id, "x");
    large["body"]["event"]["extra"] = json!("e".repeat(60_000));
    for _ in 0..100 {
        assert_eq!(socket.ask(&large).await["code"], 200);
    }
    // One answer is bounded by bytes: who wants more asks again from where it ends.
    let mut from = 0;
    let mut pages = 0;
    while from < 100 {
        let answer =
            socket.ask(&request("q", "ms.QueryMessages", json!({"dialogId": id, "newerThanSequence": from, "maxQuantity": 1000}))).await;
        let page: Vec<u64> = answer["body"].as_array().unwrap().iter().map(|change| change["sequence"].as_u64().unwrap()).collect();
        assert_eq!(page, (from..from + page.len() as u64).collect::<Vec<_>>());
        assert!(answer.to_string().len() < 2 * 1024 * 1024 && !page.is_empty());
        from += page.len() as u64;
        pages += 1;
    }
    assert!(pages > 3, "{pages}");
    // Many asked at once are answered in order, each when the one before has left.
    for number in 0..40 {
        socket.send(&request(&number.to_string(), "ms.QueryMessages", json!({"dialogId": id, "newerThanSequence": 0}))).await;
    }
    for number in 0..40 {
        assert_eq!(socket.frame().await["reqId"], number.to_string());
    }
    // And a replay of large events is whole.
    let mut agent = server.api().agent("ada", "3").await;
    agent.follow(&id, 0).await;
    assert_eq!(agent.events(100).await.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

/// A client that sends head and body in two segments, and is answered before the second, may go on on its connection.
#[tokio::test]
async fn a_request_that_is_refused_before_its_body_came_does_not_cost_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = TestServer::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    for (path, status) in
        [("/api/account/demo/messaging/consumer/conversation/send?v=3", "401"), ("/nowhere", "404"), ("/api/account/demo/signup", "200")]
    {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // Answered or not by now, the body follows.
        tokio::task::yield_now().await;
        stream.write_all(b"hello").await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
            let mut chunk = [0; 4096];
            let read = tokio::time::timeout(SOON, stream.read(&mut chunk)).await.unwrap().unwrap();
            assert!(read > 0, "{path}: the connection ended");
            answer.extend_from_slice(&chunk[..read]);
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {text}");
        // The rest of the reply, by its length.
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap()));
        let mut missing = length.unwrap_or(0) - body.len();
        while missing > 0 {
            let mut chunk = vec![0; missing];
            let read = tokio::time::timeout(SOON, stream.read(&mut chunk)).await.unwrap().unwrap();
            assert!(read > 0, "{path}: the connection ended");
            missing -= read;
        }
    }
}

/// Browsers ask beforehand whether a page may send JSON or a file; what answers them must not be lost behind the sentence
/// for wrong methods.
#[tokio::test]
async fn regression_browsers_that_ask_beforehand_are_answered() {
    let server = TestServer::start().await;
    let api = server.api();
    let asks =
        [("origin", "https://shop.example"), ("access-control-request-method", "PUT"), ("access-control-request-headers", "content-type")];
    for path in ["/files/demo/0123456789abcdef/x.PNG", "/api/account/demo/signup", "/api/account/demo/authenticate"] {
        let reply = api.call("OPTIONS", path, &asks, "").await;
        assert_eq!((reply.status, reply.headers["access-control-allow-origin"].to_str().unwrap()), (200, "*"), "{path}: {}", reply.text);
    }
    for path in ["/api/account/demo/messaging/consumer/conversation/send?v=3&v=3", "/api/account/%ff/login"] {
        let reply = api.call("POST", path, &[], "").await;
        assert_eq!((reply.status, reply.headers["content-type"].to_str().unwrap()), (400, "application/json"), "{path}: {}", reply.text);
    }
    let wrong = api.call("DELETE", "/api/account/demo/login", &[], "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert!(wrong.text.contains("does not take this method"), "{}", wrong.text);
}
