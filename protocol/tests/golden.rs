//! The wire to the byte: every frame that this crate writes, and a request of every kind in every spelling, compared with
//! the files in `golden/`. A file holds one frame a line, each behind its name.
//!
//! What a kind, code or text lacks there fails, as does a byte that has changed. After a change that is meant, write the files
//! anew with `GOLDEN=write cargo test -p tieline-protocol --test golden`, and read the difference.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::path::Path;
use tieline_protocol::body;
use tieline_protocol::code::{CloseCode, ErrorCode};
use tieline_protocol::envelope::{
    self, Code, ConnectorError, ConnectorErrorBody, ConnectorResponse, Notification, NotificationKind, OkText, RespKind, Response,
};
use tieline_protocol::event::{Event, EventClass, EventLimits, hosted_file, inspect};
use tieline_protocol::kind::{self, CONNECTOR_ERROR, RequestKind, Version, error_response};
use tieline_protocol::notify;
use tieline_protocol::text::{self, FieldText};

/// Frames with their names, in the order of the file.
type Frames = Vec<(String, String)>;

const VERSIONS: [(Version, &str); 2] = [(Version::V2, "v2"), (Version::V3, "v3")];

const CONVERSATION: &str = "8a2f1c9e-5d0b-4a7e-9c3f-2b1d6e4a7f90";
const SURVEY: &str = "8a2f1c9e-5d0b-4a7e-9c3f-2b1d6e4a7f90-survey";
const CONSUMER: &str = "5b28d1f0-7c4e-4e8b-8a11-0f9c2d3b4a55";
const AGENT: &str = "122c1043-90ab-4cde-8f01-23456789abcd";
const OLD_AGENT: &str = "demo.1001";
const SUBSCRIPTION: &str = "dceaa3db-1a2b-4c3d-8e4f-5a6b7c8d9e0f";
const EPOCH: &str = "0191d3a0-0000-7000-8000-000000000000";
const CURSOR: &str = "0191d3a0-0000-7000-8000-000000000000:17";

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

fn write(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).unwrap()
}

/// Compares frames with a golden file, and says where the first difference is.
fn compare(file: &str, frames: &Frames) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let lines: Vec<String> = frames.iter().map(|(name, frame)| format!("\"{name}\": {frame}")).collect();
    let written = format!("{{\n{}\n}}\n", lines.join(",\n"));
    let read: BTreeMap<String, &RawValue> = serde_json::from_str(&written).unwrap();
    assert_eq!(read.len(), frames.len(), "{file}: two frames have one name");
    if std::env::var("GOLDEN").is_ok_and(|wish| wish == "write") {
        return std::fs::write(&path, written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if golden == written {
        return;
    }
    for (number, (golden, written)) in golden.lines().zip(written.lines()).enumerate() {
        if golden != written {
            let place = golden.bytes().zip(written.bytes()).take_while(|(golden, written)| golden == written).count();
            let from = golden.floor_char_boundary(place.saturating_sub(60));
            let rest = |line: &str| line.get(from..).unwrap_or_default().chars().take(140).collect::<String>();
            let name = golden.split(": ").next().unwrap_or_default();
            panic!(
                "{file}, line {}, {name}: byte {place} differs\n golden: …{}\nwritten: …{}\n{}^",
                number + 1,
                rest(golden),
                rest(written),
                " ".repeat(10 + place - from)
            );
        }
    }
    panic!("{file}: the file has {} lines, and {} were written", golden.lines().count(), written.lines().count());
}

// Requests.

/// The bodies of a kind: each member that this crate reads is in one of them. A kind without one does not compile.
fn bodies(kind: RequestKind) -> Vec<String> {
    use RequestKind as K;
    let opening = r#""brandId":"demo","channelType":"MESSAGING","ttrDefName":"URGENT","skillId":77,"conversationContext":{"type":"CustomContext"},"campaignInfo":{"campaignId":1,"engagementId":2},"binding":"order-7""#;
    let filter = r#""convState":["OPEN"],"stage":"OPEN","brandId":"demo","agentIds":["demo.1001"],"consumerId":"c","conversationId":"v","minLastUpdatedTime":1,"maxLastUpdatedTime":2,"maxETTR":3,"dialogTypes":["MAIN"]"#;
    let subscription = format!(r#""subscriptionId":"{SUBSCRIPTION}""#);
    let agents = r#""brandId":"demo","channelType":"MESSAGING","agentId":"demo.1001","agentIds":["demo.1001"]"#;
    let form = format!(
        r#"{{"type":"SecureForm","dialogId":"{CONVERSATION}","conversationId":"{CONVERSATION}","submissionId":"s","invitationId":"i"}}"#
    );
    match kind {
        K::InitConnection | K::GetClock => vec!["{}".to_owned()],
        K::ConsumerRequestConversation | K::AgentRequestConversation => vec![format!(r#"{{"consumerId":"{CONSUMER}",{opening}}}"#)],
        K::PublishEvent => events()
            .into_iter()
            .map(|(event, _)| {
                format!(r#"{{"dialogId":"{CONVERSATION}","conversationId":"{CONVERSATION}","messageAudience":"ALL","event":{event}}}"#)
            })
            .collect(),
        K::UpdateConversationField => fields()
            .into_iter()
            .map(|(field, _)| format!(r#"{{"conversationId":"{CONVERSATION}","conversationField":[{field}]}}"#))
            .collect(),
        K::SubscribeExConversations | K::UpdateExConversationSubscription => vec![format!("{{{subscription},{filter}}}")],
        K::UnsubscribeExConversations => vec![format!("{{{subscription}}}")],
        K::SubscribeMessagingEvents => {
            vec![format!(r#"{{"dialogId":"{CONVERSATION}","conversationId":"{CONVERSATION}","fromSeq":4,"epoch":"{EPOCH}"}}"#)]
        }
        K::QueryMessages => vec![format!(
            r#"{{"dialogId":"{CONVERSATION}","conversationId":"{CONVERSATION}","maxQuantity":100,"newerThanSequence":-1,"olderThanSequence":9}}"#
        )],
        K::GetUserProfile => vec![format!(r#"{{"userId":"{CONSUMER}"}}"#), format!("\"{CONSUMER}\""), "{}".to_owned()],
        K::SetUserProfile => vec![
            r#"{"firstName":"Ann","lastName":"Example","avatarUrl":null,"privateData":{"mobileNum":"+100","mail":"a@b.example"},"authenticatedData":{"lp_sdes":[]}}"#
                .to_owned(),
        ],
        K::SetAgentState => vec![
            r#"{"availability":"ONLINE","channels":["MESSAGING"],"agentUserId":"demo.1001","description":"lunch","reasonId":7}"#.to_owned(),
        ],
        K::SubscribeAgentsState | K::SubscribeRoutingTasks | K::UpdateRoutingTaskSubscription => {
            vec![format!("{{{subscription},{agents}}}")]
        }
        K::UpdateRingState => {
            vec![format!(r#"{{"ringId":"{CONVERSATION}_demo_1924992000000","ringState":"ACCEPTED"}}"#)]
        }
        K::GenerateURLForUploadFile => vec![r#"{"fileSize":"5020","fileType":"PNG"}"#.to_owned()],
        K::GenerateURLForDownloadFile => vec![format!(r#"{{"relativePath":"{FILE}"}}"#)],
        K::GenerateUploadToken | K::GenerateDownloadToken => vec![format!(r#"{{"downloadable":{form},"uploadable":{form}}}"#)],
        K::GetBrandProfile => vec![r#"{"brandId":"demo"}"#.to_owned()],
        K::SubscribeApplicationEvents => vec![format!(r#"{{"after":"{CURSOR}"}}"#)],
    }
}

const FILE: &str = "/files/demo/0123456789abcdef/6f1c1b86-53d5-4b0e-9d39-0c6ab1a7c6ee-5020.PNG";

/// One event of each type and content, and what it is.
fn events() -> Vec<(String, Event)> {
    let content = |text: &str| (text.to_owned(), Event::Stored(EventClass::Content));
    vec![
        content(r#"{"type":"ContentEvent","contentType":"text/plain","message":"hello"}"#),
        content(&format!(
            r#"{{"type":"ContentEvent","contentType":"hosted/file","message":{{"caption":"a","relativePath":"{FILE}","fileType":"PNG","preview":"data:image/png;base64,AA=="}}}}"#
        )),
        content(
            r#"{"type":"ContentEvent","contentType":"forms/secure-invitation","message":{"formId":"f","invitationId":"i","title":"Card"}}"#,
        ),
        content(r#"{"type":"ContentEvent","contentType":"forms/secure-submission","message":{"submissionId":"s","invitationId":"i"}}"#),
        (
            r#"{"type":"RichContentEvent","content":{"type":"vertical","elements":[{"type":"text","text":"hello"}]}}"#.to_owned(),
            Event::Stored(EventClass::Rich),
        ),
        (r#"{"type":"AcceptStatusEvent","status":"READ","sequenceList":[3,4]}"#.to_owned(), Event::Stored(EventClass::Receipt)),
        (r#"{"type":"ChatStateEvent","chatState":"COMPOSING"}"#.to_owned(), Event::Typing),
    ]
}

/// One field of each kind, and the text that answers it.
fn fields() -> Vec<(&'static str, FieldText)> {
    use FieldText as T;
    vec![
        (r#"{"field":"ConversationStateField","conversationState":"CLOSE"}"#, T::Resolved),
        (r#"{"field":"Stage","conversationState":"CLOSE"}"#, T::Resolved),
        (
            r#"{"field":"DialogChange","type":"UPDATE","dialog":{"dialogId":"d","state":"CLOSE","closedBy":"AGENT","closedCause":"done"}}"#,
            T::Resolved,
        ),
        (r#"{"field":"ParticipantsChange","type":"ADD","role":"ASSIGNED_AGENT","userId":"demo.1001","dialogId":"d"}"#, T::AgentAdded),
        (r#"{"field":"ParticipantsChange","type":"REMOVE","role":"ASSIGNED_AGENT","userId":1001}"#, T::AgentRemoved),
        (r#"{"field":"ParticipantsChange","type":"SUGGEST","role":"ASSIGNED_AGENT","userId":"demo.1002"}"#, T::AgentRemoved),
        (r#"{"field":"ParticipantsChange","type":"UPDATE","role":"READER","userId":"demo.1002"}"#, T::AgentUpdated),
        (r#"{"field":"Skill","type":"UPDATE","skill":"77"}"#, T::SkillChanged),
        (r#"{"field":"TTRField","ttrType":"CUSTOM","value":300}"#, T::TtrUpdated),
        (r#"{"field":"ManualETTR","time":1924992000000}"#, T::ManualEttrUpdated),
        (r#"{"field":"CSATRate","csatRate":"4","csatResolutionConfirmation":true,"status":"FILLED"}"#, T::CsatProcessed),
        (r#"{"field":"Note","note":"vip"}"#, T::NoteUpdated),
    ]
}

fn request(spelling: &str, body: &str) -> String {
    format!(
        r#"{{"kind":"req","id":"7","type":"{spelling}","headers":[{{"type":".ams.headers.IdempotencyKey","key":"k-1"}}],"metadata":[{{"type":"ExternalId","id":"x"}}],"encodedMetadata":"YQ==","body":{body}}}"#
    )
}

/// What this crate reads of a body, as it is shown to programmers.
fn read(kind: RequestKind, body: &str) -> String {
    fn show<'a, T: Deserialize<'a> + Debug>(body: &'a str) -> String {
        format!("{:?}", serde_json::from_str::<T>(body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
    use RequestKind as K;
    match kind {
        // Nothing of these is read, or all as it is.
        K::InitConnection | K::GetClock | K::GetBrandProfile | K::SetUserProfile => String::new(),
        K::ConsumerRequestConversation | K::AgentRequestConversation => show::<body::RequestConversation<'_>>(body),
        K::PublishEvent => show::<body::PublishEvent<'_>>(body),
        K::UpdateConversationField => show::<body::UpdateConversationField>(body),
        K::SubscribeExConversations | K::UpdateExConversationSubscription => show::<body::SubscribeConversations>(body),
        K::UnsubscribeExConversations => show::<body::Unsubscribe>(body),
        K::SubscribeMessagingEvents => show::<body::SubscribeMessagingEvents>(body),
        K::QueryMessages => show::<body::QueryMessages>(body),
        K::GetUserProfile => show::<body::GetUserProfile>(body),
        K::SetAgentState => show::<body::SetAgentState>(body),
        K::SubscribeAgentsState | K::SubscribeRoutingTasks | K::UpdateRoutingTaskSubscription => show::<body::SubscribeAgents>(body),
        K::UpdateRingState => show::<body::UpdateRingState>(body),
        K::GenerateURLForUploadFile => show::<body::GenerateUploadUrl>(body),
        K::GenerateURLForDownloadFile => show::<body::GenerateDownloadUrl>(body),
        K::GenerateUploadToken | K::GenerateDownloadToken => show::<body::GenerateFormToken>(body),
        K::SubscribeApplicationEvents => show::<body::SubscribeApplicationEvents>(body),
    }
}

/// The members that are `None` here and `Some` nowhere.
fn unread(shown: &str) -> Vec<&str> {
    let names = shown.match_indices(": None").map(|(end, _)| &shown[shown[..end].rfind([' ', '{']).map_or(0, |at| at + 1)..end]);
    names.filter(|name| !shown.contains(&format!(" {name}: Some("))).collect()
}

#[test]
fn a_request_of_every_kind_is_read_in_every_spelling() {
    let mut frames = Frames::new();
    for kind in RequestKind::ALL {
        for (number, spelling) in kind.spellings().iter().enumerate() {
            let mut shown = String::new();
            // One spelling with each body, the others with the first: the type says nothing about the body.
            let bodies = bodies(*kind).into_iter().take(if number == 0 { usize::MAX } else { 1 });
            for (place, body) in bodies.enumerate() {
                let frame = request(spelling, &body);
                let parsed = envelope::read(&frame).unwrap();
                assert_eq!((RequestKind::parse(&parsed.kind), parsed.body.map(RawValue::get)), (Some(*kind), Some(body.as_str())));
                let header = parsed.header("IdempotencyKey").and_then(|header| header.key.as_deref());
                let metadata = parsed.metadata.map(RawValue::get);
                assert_eq!(
                    (parsed.id.as_str(), header, metadata, parsed.encoded_metadata.as_deref()),
                    ("7", Some("k-1"), Some(r#"[{"type":"ExternalId","id":"x"}]"#), Some("YQ=="))
                );
                shown += &read(*kind, &body);
                let more = if place == 0 { String::new() } else { format!(" {}", place + 1) };
                frames.push((format!("{kind:?} {spelling}{more}"), frame));
            }
            if number == 0 {
                assert_eq!(unread(&shown), Vec::<&str>::new(), "{kind:?}: these members are in no golden request: {shown}");
            }
        }
    }
    compare("requests.json", &frames);
}

#[test]
fn each_event_is_what_it_says() {
    for (event, class) in events() {
        assert_eq!(inspect(raw(&event), EventLimits::default()).unwrap(), class, "{event}");
        assert_eq!(hosted_file(raw(&event)).is_some(), event.contains("hosted/file"), "{event}");
    }
}

// Responses.

/// The body of a success.
fn success(kind: RequestKind, version: Version) -> String {
    use RequestKind as K;
    if let Some(text) = text::success(kind) {
        return write(&text);
    }
    match kind {
        K::UpdateConversationField => write(&FieldText::Resolved.as_str()),
        K::GetClock => r#"{"currentTime":1924992000000}"#.to_owned(),
        K::ConsumerRequestConversation | K::AgentRequestConversation => format!(r#"{{"conversationId":"{CONVERSATION}"}}"#),
        K::PublishEvent => r#"{"sequence":3}"#.to_owned(),
        K::SubscribeExConversations | K::SubscribeAgentsState | K::SubscribeRoutingTasks => {
            format!(r#"{{"subscriptionId":"{SUBSCRIPTION}"}}"#)
        }
        K::SubscribeMessagingEvents => format!(r#"{{"epoch":"{EPOCH}","headSeq":3,"oldestSeq":0}}"#),
        K::QueryMessages => write(&[change(version)]),
        K::GetUserProfile => format!(
            r#"{{"avatarUrl":null,"description":null,"firstName":"Ann","lastName":null,"nickName":null,"role":"CONSUMER","userId":"{CONSUMER}"}}"#
        ),
        K::GenerateURLForUploadFile | K::GenerateURLForDownloadFile => {
            let signature = "0123456789abcdef0123456789abcdef01234567";
            format!(r#"{{"queryParams":{{"temp_url_expires":"1924992060","temp_url_sig":"{signature}"}},"relativePath":"{FILE}"}}"#)
        }
        K::GenerateUploadToken => r#"{"token":{"type":"SecureFormWriteToken","writeOtk":"e30.e30.c2ln"}}"#.to_owned(),
        K::GenerateDownloadToken => r#"{"token":{"readOtk":"e30.e30.c2ln","type":"SecureFormReadToken"}}"#.to_owned(),
        K::GetBrandProfile => r#"{"id":"demo","name":"Demo"}"#.to_owned(),
        K::SubscribeApplicationEvents => format!(r#"{{"cursor":"{CURSOR}","epoch":"{EPOCH}","head":"{CURSOR}"}}"#),
        _ => unreachable!("{kind:?} has a text"),
    }
}

/// On the connector's surfaces a sentence stands in an object.
fn connector_success(kind: RequestKind) -> String {
    let body = success(kind, Version::V3);
    if body.starts_with('"') { format!(r#"{{"msg":{body}}}"#) } else { body }
}

/// Whether applications get such a response, on the connector socket or over HTTP.
fn is_for_applications(kind: RequestKind) -> bool {
    use RequestKind as K;
    match kind {
        K::InitConnection
        | K::GetClock
        | K::ConsumerRequestConversation
        | K::PublishEvent
        | K::UpdateConversationField
        | K::QueryMessages
        | K::GetUserProfile
        | K::SetUserProfile
        | K::GenerateURLForUploadFile
        | K::GenerateURLForDownloadFile
        | K::GenerateUploadToken
        | K::GetBrandProfile
        | K::SubscribeApplicationEvents => true,
        K::AgentRequestConversation
        | K::SubscribeExConversations
        | K::UnsubscribeExConversations
        | K::UpdateExConversationSubscription
        | K::SubscribeMessagingEvents
        | K::SetAgentState
        | K::SubscribeAgentsState
        | K::SubscribeRoutingTasks
        | K::UpdateRoutingTaskSubscription
        | K::UpdateRingState
        | K::GenerateDownloadToken => false,
    }
}

fn response(version: Version, kind: RequestKind, body: &str) -> String {
    let (code, kind_name) = (kind.success(), kind.response(version));
    write(&Response { kind: RespKind::Resp, req_id: Some("7"), code, kind_name, body: raw(body), replayed: false })
}

fn connector_response(kind: Option<RespKind>, body: &str, replayed: bool) -> String {
    write(&ConnectorResponse { kind, code: Code::Ok(OkText::Ok), body: raw(body), req_id: "7", replayed })
}

#[test]
fn a_response_of_every_kind() {
    let mut frames = Frames::new();
    for kind in RequestKind::ALL {
        for (version, name) in VERSIONS {
            frames.push((format!("{kind:?} {name}"), response(version, *kind, &success(*kind, version))));
        }
        if is_for_applications(*kind) {
            let body = connector_success(*kind);
            frames.push((format!("{kind:?} connector socket"), connector_response(Some(RespKind::Resp), &body, false)));
            if !matches!(kind, RequestKind::InitConnection | RequestKind::GetClock | RequestKind::SubscribeApplicationEvents) {
                frames.push((format!("{kind:?} connector http"), connector_response(None, &body, false)));
            }
        }
    }
    let body = raw(r#"{"sequence":3}"#);
    let publish = RequestKind::PublishEvent;
    for (version, name) in VERSIONS {
        let (code, kind_name) = (publish.success(), publish.response(version));
        let replayed = Response { kind: RespKind::Resp, req_id: Some("7"), code, kind_name, body, replayed: true };
        frames.push((format!("replayed {name}"), write(&replayed)));
    }
    frames.push(("replayed connector socket".to_owned(), connector_response(Some(RespKind::Resp), body.get(), true)));
    let found = format!(r#"{{"conversationId":"{CONVERSATION}","found":true}}"#);
    let open = RequestKind::ConsumerRequestConversation;
    VERSIONS.iter().for_each(|(version, name)| frames.push((format!("found {name}"), response(*version, open, &found))));
    frames.push(("found connector http".to_owned(), connector_response(None, &found, false)));
    compare("responses.json", &frames);
}

// Texts.

#[test]
fn each_text_is_what_clients_compare() {
    let mut frames = Frames::new();
    for (name, text) in [
        ("INITIALIZED", text::INITIALIZED),
        ("PROFILE_SET", text::PROFILE_SET),
        ("UNSUBSCRIBED", text::UNSUBSCRIBED),
        ("SUBSCRIPTION_UPDATED", text::SUBSCRIPTION_UPDATED),
        ("AGENT_STATE_UPDATED", text::AGENT_STATE_UPDATED),
        ("RING_STATE_UPDATED", text::RING_STATE_UPDATED),
        ("NOT_A_PARTICIPANT", text::NOT_A_PARTICIPANT),
        ("ALREADY_A_PARTICIPANT", text::ALREADY_A_PARTICIPANT),
        ("BRAND_MISSING", text::BRAND_MISSING),
    ] {
        frames.push((name.to_owned(), write(&text)));
    }
    let update = RequestKind::UpdateConversationField;
    for text in FieldText::ALL {
        let body = write(&text.as_str());
        for (version, name) in VERSIONS {
            frames.push((format!("{text:?} {name}"), response(version, update, &body)));
        }
        frames.push((format!("{text:?} connector http"), connector_response(None, &format!(r#"{{"msg":{body}}}"#), false)));
    }
    compare("texts.json", &frames);
}

#[test]
fn each_field_has_its_text_and_each_text_its_field() {
    let mut answered = HashSet::new();
    for (field, text) in fields() {
        let field: body::ConversationField = serde_json::from_str(field).unwrap();
        assert_eq!(FieldText::of(&field), text, "{field:?}");
        answered.insert(text);
    }
    assert_eq!(answered.len(), FieldText::ALL.len());
}

// Errors and closes.

fn connector_error(code: ErrorCode, req_id: Option<&str>) -> String {
    let details = text::details(code).unwrap_or(SENTENCE);
    let body = ConnectorErrorBody { title: code.title(), details, error_code: code.number() };
    write(&ConnectorError { kind: RespKind::Resp, code: code.status(), kind_name: CONNECTOR_ERROR, body, req_id })
}

const SENTENCE: &str = "Dialog is closed; open a new conversation";

#[test]
fn an_error_of_every_code() {
    let mut frames = Frames::new();
    for code in ErrorCode::ALL {
        for (version, name) in VERSIONS {
            for (req_id, id) in [(Some("9"), ""), (None, " without an id")] {
                // A request without an id is always one that is not understood.
                if req_id.is_none() && *code != ErrorCode::InvalidRequest {
                    continue;
                }
                let kind_name = error_response(version);
                let frame = Response { kind: RespKind::Resp, req_id, code: code.status(), kind_name, body: SENTENCE, replayed: false };
                frames.push((format!("{code:?} {name}{id}"), write(&frame)));
            }
        }
        frames.push((format!("{code:?} connector"), connector_error(*code, Some("9"))));
        frames.push((format!("{code:?} connector without an id"), connector_error(*code, None)));
    }
    compare("errors.json", &frames);
}

#[test]
fn a_close_of_every_code() {
    #[derive(Serialize)]
    struct Close {
        code: u16,
        reason: &'static str,
        advice: String,
    }
    let frame = |code: &CloseCode| Close { code: code.number(), reason: code.reason(), advice: format!("{:?}", code.advice()) };
    let frames = CloseCode::ALL.iter().map(|code| (format!("{code:?}"), write(&frame(code)))).collect();
    compare("closes.json", &frames);
}

// Notifications.

const CLIENT: &str = r#"{"deviceFamily":"DESKTOP","os":"LINUX","features":["AUTO_MESSAGES","MULTI_DIALOG"]}"#;

fn agent_id(version: Version) -> &'static str {
    match version {
        Version::V2 => OLD_AGENT,
        Version::V3 => AGENT,
    }
}

/// An agent's event with every member.
fn change(version: Version) -> notify::EventChange<'static> {
    let is_v2 = version == Version::V2;
    notify::EventChange {
        sequence: Some(3),
        originator_id: agent_id(version),
        originator_pid: is_v2.then_some(AGENT),
        originator_metadata: notify::Originator { id: AGENT, role: "ASSIGNED_AGENT", client_properties: Some(raw(CLIENT)) },
        originator_client_properties: is_v2.then(|| raw(CLIENT)),
        server_timestamp: Some(1_924_992_000_000),
        event: raw(r#"{"type":"ContentEvent","contentType":"text/plain","message":"hello"}"#),
        conversation_id: CONVERSATION,
        dialog_id: CONVERSATION,
        message_audience: Some("AGENTS_AND_MANAGERS"),
        metadata: Some(raw(r#"[{"type":"ExternalId","id":"x"}]"#)),
        encoded_metadata: Some("YQ=="),
    }
}

/// A consumer's typing state: nothing that may be missing is there.
fn typing() -> notify::EventChange<'static> {
    notify::EventChange {
        sequence: None,
        originator_id: CONSUMER,
        originator_pid: None,
        originator_metadata: notify::Originator { id: CONSUMER, role: "CONSUMER", client_properties: None },
        originator_client_properties: None,
        server_timestamp: None,
        event: raw(r#"{"type":"ChatStateEvent","chatState":"COMPOSING"}"#),
        conversation_id: CONVERSATION,
        dialog_id: CONVERSATION,
        message_audience: Some("ALL"),
        metadata: None,
        encoded_metadata: None,
    }
}

fn participants(version: Version, ids: [&'static str; 2]) -> notify::Participants<'static> {
    match version {
        Version::V2 => notify::Participants::ByRole(by_role(ids)),
        Version::V3 => notify::Participants::List(
            ids.into_iter().zip(["CONSUMER", "ASSIGNED_AGENT"]).map(|(id, role)| notify::Participant { id, role }).collect(),
        ),
    }
}

fn by_role(ids: [&'static str; 2]) -> BTreeMap<&'static str, Vec<&'static str>> {
    ["CONSUMER", "ASSIGNED_AGENT"].into_iter().zip(ids.map(|id| vec![id])).collect()
}

fn dialog(version: Version, dialog_type: &'static str, is_closed: bool) -> notify::DialogDetails<'static> {
    let is_main = dialog_type == "MAIN";
    let (agent_role, dialog_id) = if is_main { ("ASSIGNED_AGENT", CONVERSATION) } else { ("AGENT", SURVEY) };
    notify::DialogDetails {
        dialog_id,
        participants_details: vec![
            notify::ParticipantDetails { id: CONSUMER, role: "CONSUMER", state: "ACTIVE" },
            notify::ParticipantDetails { id: agent_id(version), role: agent_role, state: "ACTIVE" },
        ],
        dialog_type,
        channel_type: "MESSAGING",
        state: if is_closed { "CLOSE" } else { "OPEN" },
        creation_ts: 1_924_992_000_000,
        end_ts: is_closed.then_some(1_924_992_060_000),
        meta_data_last_update_ts: 1_924_992_060_000,
        closed_by: is_closed.then_some("AGENT"),
        closed_cause: is_closed.then_some("done"),
    }
}

/// A conversation: a closed one with every member, or an open one with none that may be missing.
fn conversation(version: Version, is_full: bool) -> notify::ConversationResult<'static> {
    let is_v2 = version == Version::V2;
    let (id, last) = (Some(CONVERSATION), notify::EventChange { message_audience: None, ..change(version) });
    let dialogs = if is_full {
        vec![dialog(version, "MAIN", true), dialog(version, "POST_SURVEY", true)]
    } else {
        vec![dialog(version, "MAIN", false)]
    };
    notify::ConversationResult {
        conv_id: CONVERSATION,
        effective_ttr: if is_full { -1 } else { 1_924_995_600_000 },
        last_update_time: is_v2.then_some(1_924_992_060_000),
        number_of_unread_messages: is_v2.then(|| [(CONSUMER, 2), (OLD_AGENT, 0)].into_iter().collect()),
        last_content_event_notification: is_full.then_some(last),
        conversation_details: notify::ConversationDetails {
            conv_id: id.filter(|_| is_v2),
            skill_id: "77",
            participants: participants(version, [CONSUMER, agent_id(version)]),
            participants_pid: is_v2.then(|| by_role([CONSUMER, AGENT])),
            dialogs,
            brand_id: "demo",
            state: if is_full { "CLOSE" } else { "OPEN" },
            stage: if is_full { "CLOSE" } else { "OPEN" },
            close_reason: is_full.then_some("AGENT"),
            start_ts: 1_924_992_000_000,
            end_ts: is_full.then_some(1_924_992_060_000),
            meta_data_last_update_ts: 1_924_992_060_000,
            first_conversation: true,
            ttr: notify::Ttr { ttr_type: "NORMAL", value: 3600 },
            manual_ettr: Some(1_924_992_030_000).filter(|_| is_full && is_v2),
            csat: is_full.then_some(notify::Csat { csat_rate: Some(4), csat_resolution_confirmation: Some(true), status: "FILLED" }),
            note: Some("vip").filter(|_| is_full && is_v2),
            facts: is_full.then(|| raw(r#"{"number":17,"tags":["5b28d1f0-7c4e-4e8b-8a11-0f9c2d3b4a55"]}"#)),
            context: is_full.then(|| raw(r#"{"type":"CustomContext"}"#)),
            campaign_info: is_full.then(|| raw(r#"{"campaignId":1,"engagementId":2}"#)),
            app_inst_id: is_full.then_some("demo-connector"),
            conversation_handler_details: notify::Handler { account_id: "demo", skill_id: "77" },
        },
    }
}

fn routing_task(version: Version) -> notify::RoutingTask<'static> {
    notify::RoutingTask {
        routing_task_id: CONVERSATION,
        assigned_agent_id: agent_id(version),
        brand_id: "demo",
        task_completed: false,
        conversation_id: CONVERSATION,
        consumer_id: CONSUMER,
        skill_id: "77",
        rings_details: [notify::RingDetails {
            ring_id: "8a2f1c9e-5d0b-4a7e-9c3f-2b1d6e4a7f90_demo_1924992000000",
            ring_state: "WAITING",
            ring_expiration: 72_000,
            ring_expiration_ts: 1_924_992_072_000,
            weight: 1_924_991_990_000,
            brand_id: "demo",
            conv_id: CONVERSATION,
            consumer_id: CONSUMER,
            skill_id: "77",
        }],
    }
}

fn notification(kind_name: &str, body: impl Serialize) -> String {
    write(&Notification { kind: NotificationKind::Notification, kind_name, body })
}

fn subscribed<C>(sent_ts: Option<i64>, changes: Vec<C>) -> notify::Changes<'static, C> {
    notify::Changes { subscription_id: Some(SUBSCRIPTION), sent_ts, dialog_id: None, cursor: None, changes }
}

fn upsert<R>(result: R) -> notify::ConversationChange<R> {
    notify::ConversationChange { kind: "UPSERT", result }
}

const SENT: Option<i64> = Some(1_924_992_060_001);

/// Every notification of one version.
fn notifications(version: Version) -> Vec<(&'static str, String)> {
    let events = |changes: Vec<notify::EventChange<'static>>| {
        let name = kind::events_notification(version);
        let changes = match version {
            // Its body is one change.
            Version::V2 => return changes.into_iter().map(|change| notification(name, change)).next().unwrap(),
            Version::V3 => changes,
        };
        let dialog_id = Some(CONVERSATION);
        notification(name, notify::Changes { subscription_id: None, sent_ts: None, dialog_id, cursor: None, changes })
    };
    let conversations = kind::conversations_notification(version);
    let gone = notify::ConversationChange { kind: "DELETE", result: conversation(version, true) };
    let agent = notify::AgentState {
        channels: &["MESSAGING".to_owned()],
        availability: "ONLINE",
        description: "",
        agent_user_id: agent_id(version),
    };
    vec![
        ("event", events(vec![change(version)])),
        ("typing", events(vec![typing()])),
        ("conversation UPSERT", notification(conversations, subscribed(SENT, vec![upsert(conversation(version, false))]))),
        ("conversation DELETE", notification(conversations, subscribed(SENT, vec![gone]))),
        ("routing task", notification(kind::routing_notification(version), subscribed(None, vec![upsert(routing_task(version))]))),
        ("agent state", notification(kind::agents_notification(version), subscribed(None, vec![upsert(agent)]))),
    ]
}

#[test]
fn a_notification_of_every_kind() {
    let mut frames = Frames::new();
    for (version, name) in VERSIONS {
        frames.extend(notifications(version).into_iter().map(|(what, frame)| (format!("{what} {name}"), frame)));
    }
    let (events, conversations) = (kind::events_notification(Version::V3), kind::conversations_notification(Version::V3));
    let of_dialog =
        |cursor, changes| notify::Changes { subscription_id: None, sent_ts: None, dialog_id: Some(CONVERSATION), cursor, changes };
    let of_feed = |cursor| notify::Changes {
        subscription_id: None,
        sent_ts: SENT,
        dialog_id: None,
        cursor,
        changes: vec![upsert(conversation(Version::V3, false))],
    };
    // A webhook names neither subscription nor dialog nor position.
    let posted = notify::Changes { dialog_id: None, ..of_dialog(None, vec![change(Version::V3)]) };
    for (name, frame) in [
        ("empty replay v3", notification(events, of_dialog(None, Vec::<notify::EventChange<'_>>::new()))),
        ("event connector", notification(events, of_dialog(Some(CURSOR), vec![change(Version::V3)]))),
        ("conversation connector", notification(conversations, of_feed(Some(CURSOR)))),
        ("event webhook", notification(events, posted)),
        ("conversation webhook", notification(conversations, of_feed(None))),
    ] {
        frames.push((name.to_owned(), frame));
    }
    compare("notifications.json", &frames);
}
