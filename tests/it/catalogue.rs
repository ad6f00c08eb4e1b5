//! The catalogue of types as docs/protocol.md has it, held against the code and against the running gateway.

use crate::support::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use tieline_protocol::code::{Advice, CloseCode, ErrorCode};
use tieline_protocol::kind::{
    RequestKind, Version, agents_notification, conversations_notification, events_notification, refusal, routing_notification,
};
use tieline_protocol::text::{self, FieldText};

const PAGE: &str = include_str!("../../docs/protocol.md");
const GOLDEN: &str = include_str!("../../protocol/tests/golden/responses.json");

/// What the vendor's catalogue names, by number: v2, then v3. What has no name in a version has none here.
const VENDOR: &[(&str, &str, &str)] = &[
    ("100", ".GetClock", "GetClock"),
    ("101", "", "InitConnection"),
    ("200", ".ams.aam.SubscribeExConversations", "cqm.SubscribeExConversations"),
    ("201", ".ams.aam.UnsubscribeExConversations", "cqm.UnsubscribeExConversations"),
    ("202", ".ams.aam.UpdateExConversationSubscription", "cqm.UpdateExConversationSubscription"),
    ("203", ".ams.cm.types.RequestConversation", "cm.RequestConversation"),
    ("204", ".ams.cm.ConsumerRequestConversation", "cm.ConsumerRequestConversation"),
    ("205", ".ams.cm.AgentRequestConversation", "cm.AgentRequestConversation"),
    ("206", ".ams.cm.SubscribeConversations", "cm.SubscribeConversations"),
    ("207", ".ams.cm.UnsubscribeConversations", "cm.UnsubscribeConversations"),
    ("208", ".ams.cm.UpdateConversationField", "cm.UpdateConversationField"),
    ("209", ".ams.aam.ExConversationChangeNotification", "cqm.ExConversationChangeNotification"),
    ("210", ".ams.cm.ConversationChangeNotification", "cm.ConversationChangeNotification"),
    ("300", ".ams.brandprofile.GetBrandProfile", "brandprofile.GetBrandProfile"),
    ("301", ".ams.brandprofile.GetBrands", "brandprofile.GetBrands"),
    ("302", ".ams.brandprofile.SetBrandProfile", "brandprofile.SetBrandProfile"),
    ("303", ".ams.userprofile.GetUserProfile", "userprofile.GetUserProfile"),
    ("303", "", "up.GetUserProfile"),
    ("304", ".ams.userprofile.SetUserProfile", "userprofile.SetUserProfile"),
    ("305", ".ams.routing.SetAgentState", "rs.SetAgentState"),
    ("305", "", "routing.SetAgentState"),
    ("400", ".ams.ms.PublishEvent", "ms.PublishEvent"),
    ("401", ".ams.ms.QueryMessages", ""),
    ("402", ".ams.ms.OnlineEventDistribution", "ms.MessagingEventNotification"),
    ("450", ".ams.ms.GenerateURLForUploadFile", "ms.GenerateURLForUploadFile"),
    ("451", ".ams.ms.GenerateURLForDownloadFile", "ms.GenerateURLForDownloadFile"),
    ("452", ".ams.ms.BaseGenerateURL", "ms.GenerateURL"),
    ("453", "", "ms.SubscribeMessagingEvents"),
    ("454", ".ams.UnsubscribeBody", ".ams.UnsubscribeBody"),
    ("455", "", "ms.MessagingEventNotification"),
    ("456", ".ams.ms.token.GenerateUploadToken", "ms.GenerateUploadToken"),
    ("457", "", "ms.UploadToken"),
    ("458", ".ams.ms.token.GenerateDownloadToken", "ms.GenerateDownloadToken"),
    ("459", "", "ms.DownloadToken"),
    ("500", ".ams.routing.UpdateRingState", "rs.UpdateRingState"),
    ("500", "", "routing.UpdateRingState"),
    ("501", ".ams.routing.RingUpdated", ""),
    ("502", ".ams.routing.SubscribeRoutingTasks", "rs.SubscribeRoutingTasks"),
    ("502", "", "routing.SubscribeRoutingTasks"),
    ("–", ".ams.routing.UpdateRoutingTaskSubscription", ""),
    ("503", ".ams.routing.RoutingTaskNotification", "rs.RoutingTaskNotification"),
    ("503", "", "routing.RoutingTaskNotification"),
    ("504", ".ams.routing.SubscribeAgentsState", "rs.SubscribeAgentsState"),
    ("504", "", "routing.SubscribeAgentsState"),
    ("505", ".ams.routing.AgentStateNotification", "rs.AgentStateNotification"),
    ("505", "", "routing.AgentStateNotification"),
    ("600", ".ReqBody$StringResp", "StringResponse"),
    ("603", ".ReqBody$StringResp", "StringResponse"),
    ("601", ".ams.GenericSubscribe", "GenericSubscribe"),
    ("–", "KeepAlive", "KeepAlive"),
];

/// A row of the table.
struct Row {
    numbers: Vec<&'static str>,
    v2: Vec<&'static str>,
    v3: Vec<&'static str>,
    who: Vec<&'static str>,
    here: &'static str,
    /// v2, v3; nothing for what is no request, or is answered without a type.
    reply: Option<(&'static str, &'static str)>,
    note: &'static str,
}

impl Row {
    fn spellings(&self) -> BTreeSet<&'static str> {
        self.v2.iter().chain(&self.v3).copied().collect()
    }

    fn is_served(&self) -> bool {
        self.here == "served"
    }

    fn kind(&self) -> RequestKind {
        let kinds: Vec<_> = self.spellings().into_iter().map(RequestKind::parse).collect();
        assert!(kinds.windows(2).all(|pair| pair[0] == pair[1]), "{:?}: a row is about one kind", self.spellings());
        kinds[0].unwrap_or_else(|| panic!("{:?} is served by the table and not by the code", self.spellings()))
    }
}

/// What stands in backticks.
fn names(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn table() -> Vec<Row> {
    let section = PAGE.split("\n## The catalogue of types\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let lines = section.expect("the page has a catalogue").lines().filter(|line| line.starts_with('|')).skip(2);
    let row = |line: &'static str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, v2, v3, who, here, reply_v2, reply_v3, note] = cells[..] else { panic!("eight cells: {line}") };
        let only = |cell| names(cell).first().copied();
        Row {
            numbers: number.split(", ").collect(),
            v2: names(v2),
            v3: names(v3),
            who: who.split(' ').filter(|who| *who != "–").collect(),
            here,
            reply: only(reply_v2).zip(only(reply_v3)),
            note,
        }
    };
    lines.map(row).collect()
}

#[test]
fn the_table_is_the_vendors_catalogue_and_the_codes() {
    let table = table();
    for (number, v2, v3) in VENDOR {
        let found = table
            .iter()
            .any(|row| row.numbers.contains(number) && (v2.is_empty() || row.v2.contains(v2)) && (v3.is_empty() || row.v3.contains(v3)));
        assert!(found, "no row {number} has {v2} and {v3}");
    }
    let mut served = BTreeSet::new();
    for row in table.iter().filter(|row| row.is_served()) {
        let kind = row.kind();
        served.extend(row.spellings());
        assert!(!row.who.is_empty(), "{kind:?} is served to nobody");
        let expected = (kind.response(Version::V2), kind.response(Version::V3));
        assert_eq!(row.reply, Some(expected).filter(|_| kind != RequestKind::SubscribeApplicationEvents), "{kind:?}");
        assert_eq!(row.note.contains("code 202"), kind.success() == 202, "{kind:?}");
    }
    let known: BTreeSet<_> = RequestKind::ALL.iter().flat_map(|kind| kind.spellings()).copied().collect();
    assert_eq!(known, served, "the served rows have each spelling that the code knows, and no other");
    for row in table.iter().filter(|row| !row.is_served()) {
        assert!(["sent", "refused"].contains(&row.here) && row.who.is_empty() && row.reply.is_none(), "{:?}", row.spellings());
        for spelling in row.spellings() {
            let why = refusal(spelling).unwrap_or_else(|| panic!("{spelling} is refused without a word"));
            assert!(row.note.starts_with(why), "{spelling}: {why}");
        }
    }
    let listed: BTreeSet<_> = table.iter().flat_map(Row::spellings).collect();
    let refused = tieline_protocol::kind::REFUSED.iter().flat_map(|(spellings, _)| *spellings);
    assert_eq!(refused.filter(|spelling| !listed.contains(**spelling)).collect::<Vec<_>>(), Vec::<&&str>::new());
    for version in [Version::V2, Version::V3] {
        for name in
            [events_notification(version), conversations_notification(version), routing_notification(version), agents_notification(version)]
        {
            let column = |row: &Row| if version == Version::V2 { row.v2.first().copied() } else { row.v3.first().copied() };
            assert!(table.iter().any(|row| row.here == "sent" && column(row) == Some(name)), "{name} is sent");
        }
    }
}

/// The types in the document of the calls are those that the table says are served over HTTP.
#[test]
fn the_document_of_the_calls_has_the_types_that_are_served_over_http() {
    let document = serde_json::to_value(tieline::dialect::liveperson::openapi()).unwrap();
    let requests = document["components"]["schemas"]["ConnectorRequest"]["oneOf"].as_array().unwrap();
    let documented: BTreeSet<_> = requests
        .iter()
        .flat_map(|one| one["properties"]["type"]["enum"].as_array().unwrap())
        .map(|spelling| spelling.as_str().unwrap().to_owned())
        .collect();
    let is_http = |row: &Row| row.is_served() && row.who.contains(&"H");
    let served: BTreeSet<_> =
        table().into_iter().filter(is_http).flat_map(|row| row.kind().spellings()).map(|spelling| (*spelling).to_owned()).collect();
    assert_eq!(documented, served);
}

#[test]
fn the_page_has_every_text_and_every_code() {
    let words = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts = RequestKind::ALL.iter().filter_map(|kind| text::success(*kind)).chain(FieldText::ALL.iter().map(|text| text.as_str()));
    for text in texts.chain([text::NOT_A_PARTICIPANT, text::ALREADY_A_PARTICIPANT, text::BRAND_MISSING]) {
        assert!(words.contains(&format!("`{text}`")), "{text}");
    }
    let cells = |number: u32| {
        let line = PAGE.lines().find(|line| line.starts_with(&format!("| {number} |"))).unwrap_or_else(|| panic!("no row {number}"));
        line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()
    };
    for code in ErrorCode::ALL {
        let [_, status, title, again, written] = cells(code.number())[..] else { panic!("five cells: {code:?}") };
        assert_eq!((status, title), (code.status().to_string().as_str(), code.title()));
        assert_eq!((again.starts_with("yes"), written == "no"), (code.is_retryable(), code.had_no_effect()), "{code:?}");
    }
    for code in CloseCode::ALL {
        let reconnect = cells(code.number().into())[2];
        let expected = match code.advice() {
            Advice::Reconnect => "yes",
            Advice::NewToken => "yes, with a new token",
            Advice::Afresh => "yes, without the position",
            Advice::Fix => "mend the client first",
            Advice::Done => "as you like",
        };
        assert_eq!(reconnect, expected, "{code:?}");
    }
}

/// Where a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Consumer,
    AgentV2,
    AgentV3,
    Connector,
    Http,
}

impl Side {
    const ALL: [Self; 5] = [Self::Consumer, Self::AgentV2, Self::AgentV3, Self::Connector, Self::Http];

    fn letter(self) -> &'static str {
        match self {
            Self::Consumer => "C",
            Self::AgentV2 | Self::AgentV3 => "A",
            Self::Connector => "X",
            Self::Http => "H",
        }
    }

    /// Behind the kind in the names of golden frames.
    fn golden(self) -> &'static str {
        match self {
            Self::AgentV2 => "v2",
            Self::Consumer | Self::AgentV3 => "v3",
            Self::Connector => "connector socket",
            Self::Http => "connector http",
        }
    }

    fn is_application(self) -> bool {
        matches!(self, Self::Connector | Self::Http)
    }
}

/// One consumer, one agent who answers it, and everything they can be reached by.
struct World {
    ann: Speaker,
    ann_id: String,
    consumer: Ws,
    agents: [Ws; 2],
    connector: Ws,
    conversation: String,
    asked: u64,
}

impl World {
    async fn new(server: &TestServer) -> Self {
        let api = server.api();
        let ann = api.speaker("ann").await;
        let conversation = ann.open().await;
        let agents = [api.agent("ada", "2.1").await, api.agent("ada", "3").await];
        let (consumer, connector) = (ann.consumer_socket().await, ann.connector_socket().await);
        let mut this = Self { ann, ann_id: String::new(), consumer, agents, connector, conversation, asked: 0 };
        let profile = this.ask(Side::Consumer, "userprofile.GetUserProfile", json!({})).await;
        this.ann_id = profile["body"]["userId"].as_str().unwrap().to_owned();
        let joined = this.agents[0].ask(&add_agent("join", &this.conversation.clone(), "ASSIGNED_AGENT")).await;
        assert_eq!(joined["code"], 200, "{joined}");
        this.ask(Side::AgentV2, "rs.SetAgentState", json!({"availability": "ONLINE"})).await;
        this.ask(Side::AgentV2, "rs.SubscribeRoutingTasks", json!({})).await;
        this
    }

    async fn ask(&mut self, side: Side, kind: &str, body: Value) -> Value {
        self.asked += 1;
        let mut frame = request(&format!("q{}", self.asked), kind, body);
        match side {
            Side::Consumer => self.consumer.ask(&frame).await,
            Side::AgentV2 => self.agents[0].ask(&frame).await,
            Side::AgentV3 => self.agents[1].ask(&frame).await,
            Side::Connector => {
                let header = |kind: &str, jwt: &str| json!({"type": format!(".ams.headers.{kind}"), "jwt": jwt});
                frame["headers"] = json!([header("AppAuthentication", &self.ann.app), header("ConsumerAuthentication", &self.ann.jws)]);
                self.connector.ask(&frame).await
            }
            Side::Http => self.ann.post(SEND, frame.to_string()).await.json(),
        }
    }

    /// A member of the body of an answer; something that nobody knows, if it was an error.
    async fn made(&mut self, side: Side, kind: &str, body: Value, member: &str) -> String {
        let answer = self.ask(side, kind, body).await;
        answer["body"][member].as_str().unwrap_or("nothing").to_owned()
    }

    /// An offer that waits for the agent.
    async fn ring(&mut self) -> String {
        let id = self.ann.open().await;
        self.ann.say(&id, "hello?").await;
        let is_it = |frame: &Value| {
            let task = &frame["body"]["changes"][0]["result"];
            task["conversationId"] == *id && task["ringsDetails"][0]["ringState"] == "WAITING"
        };
        let told = self.agents[0].first(is_it).await;
        told["body"]["changes"][0]["result"]["ringsDetails"][0]["ringId"].as_str().unwrap().to_owned()
    }

    /// A body with which a request of a kind succeeds, for those who may send it.
    async fn body(&mut self, side: Side, kind: RequestKind) -> Value {
        use RequestKind as K;
        let (id, is_agent) = (self.conversation.clone(), side.letter() == "A");
        let form = json!({"type": "SecureForm", "dialogId": id, "invitationId": "i", "submissionId": "s"});
        match kind {
            K::InitConnection | K::GetClock | K::GetUserProfile | K::SubscribeApplicationEvents => json!({}),
            K::ConsumerRequestConversation => json!({"brandId": ACCOUNT}),
            K::AgentRequestConversation => json!({"consumerId": self.ann_id, "channelType": "MESSAGING"}),
            K::PublishEvent => json!({"dialogId": id, "event": {"type": "ContentEvent", "message": "hello"}}),
            K::UpdateConversationField => {
                json!({"conversationId": id, "conversationField": {"field": "TTRField", "ttrType": "URGENT"}})
            }
            K::SubscribeExConversations => json!({"conversationId": id}),
            K::UnsubscribeExConversations | K::UpdateExConversationSubscription => {
                let watch = json!({"conversationId": id});
                json!({"subscriptionId": self.made(side, "cqm.SubscribeExConversations", watch, "subscriptionId").await})
            }
            K::SubscribeMessagingEvents | K::QueryMessages => json!({"dialogId": id}),
            K::SetUserProfile => json!({"firstName": "Ann"}),
            K::SetAgentState => json!({"availability": "ONLINE", "channels": ["MESSAGING"]}),
            K::SubscribeAgentsState | K::GetBrandProfile => json!({"brandId": ACCOUNT}),
            K::SubscribeRoutingTasks => json!({"channelType": "MESSAGING"}),
            K::UpdateRoutingTaskSubscription => {
                json!({"subscriptionId": self.made(side, "rs.SubscribeRoutingTasks", json!({}), "subscriptionId").await})
            }
            K::UpdateRingState => {
                let ring = if is_agent { self.ring().await } else { format!("{id}_{ACCOUNT}_1") };
                json!({"ringId": ring, "ringState": "REJECTED"})
            }
            K::GenerateURLForUploadFile => json!({"fileSize": 20, "fileType": "PNG"}),
            K::GenerateURLForDownloadFile => {
                let upload = json!({"fileSize": "20", "fileType": "PNG"});
                json!({"relativePath": self.made(side, "ms.GenerateURLForUploadFile", upload, "relativePath").await})
            }
            K::GenerateUploadToken => json!({"uploadable": form}),
            K::GenerateDownloadToken => json!({"downloadable": form}),
        }
    }
}

/// The sentence of an error, on whichever side.
fn sentence(answer: &Value) -> &str {
    answer["body"].as_str().or_else(|| answer["body"]["details"].as_str()).unwrap_or_default()
}

/// Whether a body has the form of the golden one: the same sentence, an array, or an object with its members.
fn has_form(golden: &Value, body: &Value) -> bool {
    match (golden, body) {
        (Value::Object(golden), Value::Object(body)) => golden.keys().all(|key| body.contains_key(key)),
        (Value::Array(_), Value::Array(_)) => true,
        (golden, body) => golden == body,
    }
}

#[tokio::test]
async fn every_served_type_is_answered_as_the_table_says() {
    let server = TestServer::start().await;
    let golden: HashMap<String, Value> = serde_json::from_str(GOLDEN).unwrap();
    let mut world = World::new(&server).await;
    let (mut answered, mut turned_away) = (0, 0);
    for row in table().iter().filter(|row| row.is_served()) {
        let kind = row.kind();
        for (side, spelling) in Side::ALL.into_iter().flat_map(|side| row.spellings().into_iter().map(move |spelling| (side, spelling))) {
            let body = world.body(side, kind).await;
            let answer = world.ask(side, spelling, body).await;
            let context = || format!("{spelling} by {side:?}: {answer}");
            if !row.who.contains(&side.letter()) {
                assert!(answer["code"].as_u64().is_some_and(|code| (400..404).contains(&code)), "{}", context());
                let said = sentence(&answer);
                assert!(!said.is_empty() && !said.contains("not known here") && !said.contains("is not served"), "{}", context());
                turned_away += 1;
                continue;
            }
            answered += 1;
            let golden = &golden[&format!("{kind:?} {}", side.golden())];
            assert_eq!((&answer["code"], &answer["kind"]), (&golden["code"], &golden["kind"]), "{}", context());
            assert_eq!(answer["type"], golden["type"], "{}", context());
            if !side.is_application() {
                let (v2, v3) = row.reply.unwrap();
                assert_eq!(answer["type"], if side == Side::AgentV2 { v2 } else { v3 }, "{}", context());
            }
            // Which sentence it is depends on the field.
            let is_alike = kind == RequestKind::UpdateConversationField || has_form(&golden["body"], &answer["body"]);
            assert!(is_alike, "{}, and not {golden}", context());
            if let (RequestKind::AgentRequestConversation, Some(id)) = (kind, answer["body"]["conversationId"].as_str()) {
                // The agent is to have room for offers.
                let close = change("close", id, json!({"field": "Stage", "conversationState": "CLOSE"}));
                world.agents[0].ask(&close).await;
            }
        }
    }
    println!("catalogue: {answered} answered, {turned_away} turned away");
}

#[tokio::test]
async fn every_other_type_is_refused_with_the_text_of_the_table() {
    let server = TestServer::start().await;
    let mut world = World::new(&server).await;
    for row in table().iter().filter(|row| !row.is_served()) {
        for (side, spelling) in Side::ALL.into_iter().flat_map(|side| row.spellings().into_iter().map(move |spelling| (side, spelling))) {
            let answer = world.ask(side, spelling, json!({})).await;
            assert_eq!(answer["code"], 400, "{spelling} by {side:?}: {answer}");
            let said = sentence(&answer);
            let why = said.strip_prefix(&format!("the type {spelling:?} is not served: ")).unwrap_or_else(|| panic!("{answer}"));
            assert!(row.note.starts_with(why), "{answer}");
        }
    }
    for side in Side::ALL {
        let answer = world.ask(side, "ms.Nonsense", json!({})).await;
        assert_eq!((&answer["code"], sentence(&answer)), (&json!(400), "the type \"ms.Nonsense\" is not known here"));
    }
}
