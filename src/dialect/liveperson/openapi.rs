//! What the document of the calls says beside the handlers: the envelope and its bodies, and how each service refuses.
//!
//! The envelope is read by hand, so its schema is made by hand, too; the types and the codes in it are those of the code.

use super::connector::is_over_http;
use super::tokens::InternalError;
use crate::openapi::{AnyObject, Sentence, refusals};
use serde::Serialize;
use std::collections::BTreeMap;
use tieline_protocol::code::ErrorCode;
use tieline_protocol::kind::{CONNECTOR_ERROR, RequestKind};
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, OneOfBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ArrayBuilder, Content, ObjectBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "LivePerson-compatible calls",
        description = "The HTTP calls of the Connector API, of sign-up, sign-in and login, of installations and of the history. \
            The sockets, and what each request means, are on the protocol's page.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(
        Sentence, ConnectorError, Refusal, InternalError, SessionOver, PublishEvent, RequestConversation, UpdateConversationField,
        QueryMessages, GetUserProfile, UploadOf, DownloadOf, FormToken, AnyObject, Published, Opened, Said, Changes, Profile, Brand,
        SignedUrl, WriteToken,
    )),
    modifiers(&Schemes),
    tags(
        (name = "lookup", description = "Where each service lives, and the keys that tokens are signed with."),
        (name = "applications", description = "Tokens of applications, and identities of the consumers that they speak for."),
        (name = "connector", description = "SEND and CONVERSATION: what an application does for a consumer."),
        (name = "consumers", description = "Tokens of consumers who come by themselves."),
        (name = "agents", description = "Sessions of agents, and the history."),
        (name = "installations", description = "Applications that come and go; for administrators."),
    ),
)]
struct About;

/// How callers say who they are.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut Document) {
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let header = |name, what| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, what)));
        let session = ApiKeyValue::with_description("Session_id", "An agent's session.");
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("app_jwt", header("Authorization", "The AppJWT, as it is or behind `Bearer`."));
        components.add_security_scheme("consumer_jws", header("X-LP-ON-BEHALF", "The ConsumerJWS of whom the request is for."));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
    }
}

/// The document before its calls.
pub(super) fn about() -> Document {
    About::openapi()
}

/// What SEND and CONVERSATION may be told beside the tokens.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the headers; here it is described")]
pub(super) struct Spoken {
    /// Makes a repeat harmless: the same key with the same request is answered as the first time.
    #[param(rename = "idempotency-key")]
    idempotency_key: Option<String>,
    /// What the consumer's client says of itself: JSON of at most 2 KiB.
    #[param(rename = "client-properties")]
    client_properties: Option<String>,
}

/// What a change of an installation must name.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read from the headers; here it is described")]
pub(super) struct Change {
    /// The `ac-revision` of the last answer.
    #[param(rename = "if-match", required = true)]
    if_match: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) token: String,
}

/// A token, as older clients know it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwt {
    pub(super) jwt: String,
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Text that is always the same, or one of some.
fn one_of(words: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    text().enum_values(Some(words))
}

fn refer<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// An error of the Connector API.
pub(super) struct ConnectorError;

impl PartialSchema for ConnectorError {
    fn schema() -> RefOr<Schema> {
        let numbers = ErrorCode::ALL.iter().map(|code| code.number());
        let body = ObjectBuilder::new()
            .property("title", one_of(ErrorCode::ALL.iter().map(|code| code.title())))
            .property("details", text().description(Some("What is wrong, in a sentence.")))
            .property("errorCode", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some(numbers)))
            .required("title")
            .required("details")
            .required("errorCode");
        ObjectBuilder::new()
            .description(Some("An error of the Connector API. The first three digits of `errorCode` are the status."))
            .property("kind", one_of(["resp"]))
            .property("code", ObjectBuilder::new().schema_type(Type::Integer).description(Some("The status.")))
            .property("type", one_of([CONNECTOR_ERROR]))
            .property("body", body)
            .property("reqId", text().description(Some("The request's id, where the error belongs to one.")))
            .required("kind")
            .required("code")
            .required("type")
            .required("body")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for ConnectorError {}

/// How a request is refused that may be so bad that no service has seen it.
struct Refusal;

impl PartialSchema for Refusal {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(refer::<ConnectorError>()).item(refer::<Sentence>()).into()
    }
}

impl ToSchema for Refusal {}

/// A session that is over.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "written by hand in one place; here it is described")]
struct SessionOver {
    #[schema(inline)]
    error: SessionError,
}

/// Why it is over.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct SessionError {
    message: String,
    internal_code: u32,
    /// The status by its name.
    response_status: String,
}

/// Refusals by code, their reasons being the codes' titles, and those that are said in another shape.
fn refused(codes: &[ErrorCode], others: &[(u16, RefOr<Schema>, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let mut all: BTreeMap<u16, (RefOr<Schema>, String)> = BTreeMap::new();
    all.insert(400, (refer::<Refusal>(), "The request cannot be understood, or is not possible now.".into()));
    for code in codes {
        let shape = if code.status() == 400 { refer::<Refusal>() } else { refer::<ConnectorError>() };
        let title = format!("{} ({})", code.title(), code.number());
        all.entry(code.status()).and_modify(|(_, why)| *why = format!("{why}; {title}")).or_insert((shape, title));
    }
    all.extend(others.iter().map(|(status, shape, why)| (*status, (shape.clone(), (*why).to_owned()))));
    let response = |(status, (shape, why)): (u16, (RefOr<Schema>, String))| {
        let response = ResponseBuilder::new().description(why).content("application/json", Content::new(Some(shape))).build();
        (status.to_string(), RefOr::T(response))
    };
    all.into_iter().map(response).collect()
}

/// A set of refusals of one service: the codes that it answers with, and what it says in a shape of its own.
macro_rules! refused {
    ($(#[$doc:meta])* $name:ident: $($code:ident),* $(; $($status:literal $shape:ty: $why:literal),+)?) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                refused(&[$(ErrorCode::$code),*], &[$($(($status, refer::<$shape>(), $why)),+)?])
            }
        }
    };
}

refused! {
    /// Of SEND and CONVERSATION.
    ConnectorRefused: MissingParameter, InvalidRequest, Refused, InvalidAppJwt, InvalidConsumerJws, MissingConsumerJws, MissingAppJwt,
    NotPermitted, NotFound, KeyReused, TooLarge, TooMany, Internal, Unknown, Busy, DiskFull
}
refused! {
    /// Of an application's token.
    BadAppToken: InvalidRequest, TooLarge, TooMany;
    401 Sentence: "The credentials are wrong.", 503 Sentence: "Try again."
}
refused! {
    /// Of a consumer's identity.
    NamingRefused: MissingParameter, InvalidRequest, InvalidAppJwt, MissingAppJwt, TooLarge, Internal, Unknown, Busy, DiskFull
}
refused! {
    /// Of signing up.
    SignUpRefused: MissingParameter, TooMany;
    404 InternalError: "There is no such account.", 503 InternalError: "Try again."
}
refused! {
    /// Of exchanging a consumer's token.
    AuthorizeRefused: InvalidRequest, TooLarge, TooMany;
    401 InternalError: "The token is not good here.", 404 InternalError: "There is no such account.", 503 InternalError: "Try again."
}
refused! {
    /// Of signing in.
    SignInRefused: MissingParameter, InvalidRequest, TooLarge, TooMany;
    401 InternalError: "`lp_jwt` is not good here.",
    404 InternalError: "There is no such account or provider.",
    500 InternalError: "The provider's token is not valid; clients know this status for it.",
    503 InternalError: "It cannot be checked now; try again."
}
refused! {
    /// Of a login.
    LoginRefused: InvalidRequest, TooLarge;
    401 Sentence: "The login or the password is wrong.", 429 Sentence: "Too many attempts.", 503 Sentence: "Try again."
}
refused! {
    /// Of a refresh and a logout.
    SessionRefused: MissingParameter, InvalidRequest, TooLarge;
    401 SessionOver: "There is no such session.", 503 SessionOver: "Try again."
}
refused! {
    /// Of the history.
    HistoryRefused: MissingParameter, InvalidRequest, NotAuthenticated, TooLarge, Busy
}
refused! {
    /// Of installations.
    AdministrationRefused: MissingParameter, InvalidRequest, Refused, NotAuthenticated, NotPermitted, NotFound, OtherRevision, TooLarge,
    Unknown, Busy, DiskFull
}
refusals! {
    /// Of the lookup.
    UnknownHere { 400: "There is no such account, or a name is missing." }
}

/// A request of the Connector API.
pub(super) struct ConnectorRequest;

impl PartialSchema for ConnectorRequest {
    fn schema() -> RefOr<Schema> {
        let kinds = RequestKind::ALL.iter().copied().filter(|kind| is_over_http(*kind));
        kinds.fold(OneOfBuilder::new(), |all, kind| all.item(request(kind))).description(Some("By its type.")).into()
    }
}

impl ToSchema for ConnectorRequest {}

/// A request of one kind.
fn request(kind: RequestKind) -> ObjectBuilder {
    let short = text().min_length(Some(1)).max_length(Some(64));
    let id = OneOfBuilder::new().item(short).item(ObjectBuilder::new().schema_type(Type::Integer));
    let header = ObjectBuilder::new().property("type", text()).required("type");
    let request = ObjectBuilder::new()
        .title(Some(kind.spellings()[0]))
        .property("kind", one_of(["req"]))
        .property("id", id.description(Some("It correlates, and nothing else: it may repeat.")))
        .property("type", one_of(kind.spellings().iter().copied()))
        .property("headers", ArrayBuilder::new().items(header))
        .property("metadata", ArrayBuilder::new().items(refer::<AnyObject>()))
        .property("encodedMetadata", text().max_length(Some(5_120)))
        .property("body", request_body(kind))
        .required("kind")
        .required("id")
        .required("type");
    match kind {
        RequestKind::SetUserProfile | RequestKind::GetBrandProfile | RequestKind::GetUserProfile => request,
        _ => request.required("body"),
    }
}

fn request_body(kind: RequestKind) -> RefOr<Schema> {
    match kind {
        RequestKind::PublishEvent => refer::<PublishEvent>(),
        RequestKind::ConsumerRequestConversation => refer::<RequestConversation>(),
        RequestKind::UpdateConversationField => refer::<UpdateConversationField>(),
        RequestKind::QueryMessages => refer::<QueryMessages>(),
        RequestKind::GetUserProfile => refer::<GetUserProfile>(),
        RequestKind::GenerateURLForUploadFile => refer::<UploadOf>(),
        RequestKind::GenerateURLForDownloadFile => refer::<DownloadOf>(),
        RequestKind::GenerateUploadToken => refer::<FormToken>(),
        _ => refer::<AnyObject>(),
    }
}

/// An event for a dialog.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read from the envelope; here it is described")]
struct PublishEvent {
    /// The dialog; in a batch that opens a conversation, empty for its main dialog.
    dialog_id: Option<String>,
    /// For a dialog that is not the main one.
    conversation_id: Option<String>,
    #[schema(value_type = Event, inline)]
    event: Event,
    /// `ALL`, or nothing.
    message_audience: Option<String>,
}

/// What happened in it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct Event {
    /// `ContentEvent`, `RichContentEvent`, `AcceptStatusEvent` or `ChatStateEvent`.
    #[schema(rename = "type")]
    kind: String,
    /// Of a `ContentEvent`: text, or an object for a content type of its own.
    #[schema(value_type = Option<String>)]
    message: (),
    content_type: Option<String>,
    /// Of a `RichContentEvent`.
    content: Option<AnyObject>,
    /// Of an `AcceptStatusEvent`.
    status: Option<String>,
    /// Of an `AcceptStatusEvent`.
    sequence_list: Option<Vec<u64>>,
    /// Of a `ChatStateEvent`.
    chat_state: Option<String>,
}

/// A conversation that is wanted.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct RequestConversation {
    /// The account.
    brand_id: String,
    /// `MESSAGING`.
    channel_type: Option<String>,
    /// How urgent an answer is: `NORMAL`, `PRIORITIZED`, `URGENT`, `CUSTOM`.
    ttr_def_name: Option<String>,
    /// The queue.
    skill_id: Option<String>,
    conversation_context: Option<AnyObject>,
    campaign_info: Option<AnyObject>,
    /// Your own name for the conversation: while one of this name is open, it is found instead of opened.
    binding: Option<String>,
}

/// A change of a conversation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct UpdateConversationField {
    conversation_id: String,
    /// One or several; the protocol's page lists them.
    conversation_field: Vec<Field>,
}

/// One field of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Field {
    /// `ConversationStateField`, `Stage`, `DialogChange`, `ParticipantsChange`, `TTRField` or `CSATRate`.
    field: String,
}

/// Which events.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct QueryMessages {
    dialog_id: String,
    conversation_id: Option<String>,
    newer_than_sequence: Option<i64>,
    older_than_sequence: Option<i64>,
    /// From 1 to 1,000; more is taken as 1,000.
    max_quantity: Option<u64>,
}

/// Whose profile; nothing: the consumer's own.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct GetUserProfile {
    user_id: Option<String>,
}

/// A file that is to be put there.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct UploadOf {
    /// Bytes.
    file_size: u64,
    /// The end of its name, such as `PNG`.
    file_type: String,
}

/// A file that is wanted.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct DownloadOf {
    relative_path: String,
}

/// A secure form that is to be filled in.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct FormToken {
    #[schema(inline)]
    uploadable: Form,
}

/// Which form.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct Form {
    dialog_id: String,
    conversation_id: Option<String>,
    invitation_id: String,
    submission_id: Option<String>,
}

/// The answer to a request of the Connector API.
pub(super) struct ConnectorReply;

impl PartialSchema for ConnectorReply {
    fn schema() -> RefOr<Schema> {
        let body = AnyOfBuilder::new()
            .item(refer::<Published>())
            .item(refer::<Opened>())
            .item(refer::<Said>())
            .item(refer::<Changes>())
            .item(refer::<Profile>())
            .item(refer::<Brand>())
            .item(refer::<SignedUrl>())
            .item(refer::<WriteToken>());
        ObjectBuilder::new()
            .property("code", one_of(["OK"]))
            .property("body", body.description(Some("By the request's type.")))
            .property("reqId", text().description(Some("The request's id, always text.")))
            .required("code")
            .required("body")
            .required("reqId")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for ConnectorReply {}

/// An event's number in its dialog; 0 for a typing state.
#[derive(ToSchema)]
#[expect(dead_code, reason = "written by others; here it is described")]
struct Published {
    sequence: u64,
}

/// A conversation that was opened, or found.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct Opened {
    conversation_id: String,
    /// `true`, if it was there.
    found: Option<bool>,
}

/// That it was done.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Said {
    msg: String,
}

/// Events of a dialog, in order.
struct Changes;

impl PartialSchema for Changes {
    fn schema() -> RefOr<Schema> {
        let change = ObjectBuilder::new()
            .property("sequence", ObjectBuilder::new().schema_type(Type::Integer))
            .property("originatorId", text())
            .property("originatorMetadata", refer::<AnyObject>())
            .property("serverTimestamp", ObjectBuilder::new().schema_type(Type::Integer))
            .property("event", refer::<AnyObject>())
            .required("event");
        ArrayBuilder::new().items(change).description(Some("Events of a dialog, in order.")).into()
    }
}

impl ToSchema for Changes {}

/// A profile: `userId`, and the members that were set.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct Profile {
    user_id: String,
}

/// The account.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Brand {
    id: String,
    name: String,
}

/// An address of a file.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct SignedUrl {
    relative_path: String,
    /// Its query.
    query_params: AnyObject,
}

/// A token for a secure form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct WriteToken {
    token: AnyObject,
}

/// An application, as it is shown: its manifest, with what the gateway says of it.
pub(super) struct Application;

impl PartialSchema for Application {
    fn schema() -> RefOr<Schema> {
        let flag = || ObjectBuilder::new().schema_type(Type::Boolean);
        ObjectBuilder::new()
            .description(Some("An application: its manifest, with what the gateway says of it."))
            .property("id", text())
            .property("client_id", text())
            .property("client_name", text())
            .property("client_secret", text().description(Some("Of those that were installed.")))
            .property("client_id_issued_at", ObjectBuilder::new().schema_type(Type::Integer).description(Some("Seconds since 1970.")))
            .property("enabled", flag())
            .property("deleted", flag())
            .property("scope", text())
            .required("id")
            .required("client_id")
            .required("client_name")
            .required("enabled")
            .required("deleted")
            .required("scope")
            .into()
    }
}

impl ToSchema for Application {}

/// Public keys, as RFC 7517 has them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// One of them.
pub(super) struct Key;

impl PartialSchema for Key {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property("kid", text().description(Some("`{purpose}-{hash}`.")))
            .property("kty", text())
            .property("use", one_of(["sig"]))
            .required("kid")
            .required("kty")
            .into()
    }
}

impl ToSchema for Key {}

/// A conversation, or nothing.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
pub(super) struct History {
    #[schema(rename = "_metadata", inline)]
    metadata: Count,
    conversation_history_records: Vec<Record>,
}

/// How many.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct Count {
    count: u64,
}

/// A conversation when it is over: everything that is known of it.
pub(super) struct Record;

impl PartialSchema for Record {
    fn schema() -> RefOr<Schema> {
        let lists = [
            "messageRecords",
            "messageStatuses",
            "agentParticipants",
            "consumerParticipants",
            "dialogs",
            "conversationSurveys",
            "transfers",
            "interactions",
            "messageScores",
            "coBrowseSessions",
        ];
        let with_info = ObjectBuilder::new().property("info", refer::<AnyObject>()).required("info");
        let list = |all: ObjectBuilder, name| all.property(name, ArrayBuilder::new().items(refer::<AnyObject>())).required(name);
        lists.into_iter().fold(with_info, list).property("sdes", refer::<AnyObject>()).into()
    }
}

impl ToSchema for Record {}
