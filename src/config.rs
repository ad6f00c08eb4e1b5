//! The configuration: `config.toml`'s embedded defaults, under the operator's file, under environment variables.
//!
//! It is read and validated once. After that it is true: nothing that holds a [`Config`] checks it again. An error
//! says which file or variable, where in it, what is wrong and what to write instead.

mod api_key;
mod oauth_app;
mod sign_in;
pub mod things;
mod webhook;

pub use api_key::{ApiKey, Dialect, KeyRate};
pub use oauth_app::OAuthApp;
pub use sign_in::{KeySource, SignIn, Signature};
pub use webhook::{ANY_EVENT, Allowed, Endpoint, Header, Webhook, WebhookSecret, WebhookSignature, WrongUrl, check_secrets};

use crate::domain::Channel;
use crate::things::{check_email, check_origin, check_phone};
use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tieline_protocol::event::EventLimits;
use uuid::Uuid;

/// The defaults, and their documentation.
pub const DEFAULTS: &str = include_str!("../config.toml");

/// Bounds within which arithmetic with sizes and times cannot go wrong.
const LARGEST_BODY: usize = 64 * 1024 * 1024;
const MOST_FETCHES: usize = 256;
const SHORTEST_OFFER: Duration = Duration::from_millis(100);
const LONGEST_SPAN: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The admin key of a double for tests that was given none.
pub const DEV_ADMIN_KEY: &str = "dev";

/// The dialects that may be served.
const DIALECTS: [&str; 5] = ["liveperson", "dixa", "oncehub", "ultracart", "hubster"];

/// What environment variables of settings begin with.
const PREFIX: &str = "TIELINE__";

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Something in the file is wrong.
    #[error("{file}:{line}:{column}: {reason}\n{excerpt}")]
    Text {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong, and what it should be.
        reason: String,
        /// The line with a mark under it.
        excerpt: String,
    },
    /// An environment variable is wrong.
    #[error("{variable}: {reason}")]
    Variable {
        /// The variable.
        variable: String,
        /// What is wrong, and what it should be.
        reason: String,
    },
    /// Settings do not go together.
    #[error("{key}: {reason}")]
    Value {
        /// The setting.
        key: String,
        /// What is wrong, and what it should be.
        reason: String,
    },
}

/// Declares a section twice: strict, as it is used, and with every member optional, as a file may write it. What stands
/// `beside` its members is in no file.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }
     $(beside $(#[$own_doc:meta])* $own:ident: $own_type:ty)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
            $($(#[$own_doc])* #[serde(skip)] pub $own: $own_type,)*
        }
        const _: () = {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            #[allow(dead_code, reason = "read only to learn where a file is wrong")]
            struct Partial { $(#[serde(default)] $field: Option<<$type as Section>::Partial>,)+ }
            impl Section for $name { type Partial = Partial; }
        };
    };
}

/// What a file may write for a type: all of it, or for a section any part of it.
trait Section {
    type Partial;
}

macro_rules! plain {
    ($($type:ty),+) => { $(impl Section for $type { type Partial = $type; })+ };
}
plain!(bool, u32, usize, String, PathBuf, Listen, Span, MaybeSpan, Bytes, LogFormat);
impl<T> Section for Vec<T> {
    type Partial = Vec<T>;
}

section!(
    /// Everything.
    Config {
        /// The listeners and the data folder.
        server: Server,
        /// What is for operators only.
        internal: Internal,
        /// How attachments are kept.
        files: FileSettings,
        /// How waiting conversations are offered to agents.
        routing: Routing,
        /// How webhooks are tried, and where installed ones may lead.
        webhooks: WebhookSettings,
        /// How long what is over is kept.
        retention: Retention,
        /// Sizes, rates and times.
        limits: Limits,
        /// How long tokens live.
        tokens: Tokens,
        /// What is logged, and how.
        log: Log,
        /// The tenants.
        accounts: Vec<Account>,
    }
    beside
    /// Whether webhooks may go to this machine without TLS, and attachments be fetched from it. No file says so: whoever
    /// starts the gateway does.
    allow_loopback_webhooks: bool
    beside
    /// What only a start can change.
    fixed: Fixed
);

/// The settings that hold until the process ends, by their names, as they were written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fixed(BTreeMap<String, String>);

/// They may hold credentials.
impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fixed")
    }
}

impl Fixed {
    /// What a reload takes, and so is not fixed.
    const LIVE: [&str; 10] = [
        "accounts",
        "limits",
        "tokens",
        "retention",
        "log.level",
        "internal.admin_key",
        "routing.ring",
        "routing.refusal",
        "server.tls.cert",
        "server.tls.key",
    ];

    fn of(table: &toml::Table) -> Self {
        let mut fixed = Self::default();
        fixed.add("", table);
        fixed
    }

    fn add(&mut self, under: &str, table: &toml::Table) {
        for (key, value) in table {
            let name = format!("{under}{key}");
            match value {
                _ if Self::LIVE.contains(&name.as_str()) => {}
                toml::Value::Table(inner) => self.add(&format!("{name}."), inner),
                value => drop(self.0.insert(name, value.to_string())),
            }
        }
    }
}

section!(
    /// The listeners and the data folder.
    Server {
        /// HTTP and WebSocket.
        listen: Listen,
        /// What the domain lookup answers.
        public_url: String,
        /// The database, the keys, the certificates.
        data_dir: PathBuf,
        /// Browsers' origins that may connect.
        allowed_origins: Vec<String>,
        /// Which vendors' APIs are served.
        dialects: Vec<String>,
        /// How long a drain may take.
        drain: Span,
        /// Whether this is a double for tests: the same ids everywhere, faults on demand.
        dev: bool,
        /// HTTPS and WSS.
        tls: Tls,
    }
);

section!(
    /// HTTPS and WSS.
    Tls {
        /// The address; none switches it off.
        listen: Listen,
        /// The certificate chain, PEM.
        cert: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
        /// Whether to make a CA.
        self_signed: bool,
    }
);

section!(
    /// What is for operators only.
    Internal {
        /// An address of its own for metrics and health.
        listen: Listen,
        /// What `/admin` asks for; empty switches it off.
        admin_key: String,
    }
);

section!(
    /// How attachments are kept.
    FileSettings {
        /// Where; empty is the data folder.
        url: String,
        /// The largest.
        largest: Bytes,
        /// How long a URL is good for.
        url_time: Span,
        /// The types that are taken.
        types: Vec<String>,
        /// For all the attachments of one request that are given by URL to be fetched.
        fetch_timeout: Span,
        /// For a connection to where one is to be made.
        fetch_connect_timeout: Span,
        /// Attachments of one account that are fetched at a time.
        fetch_concurrency: usize,
        /// Where they may lie although it is not public.
        fetch_allow: Vec<Allowed>,
    }
);

section!(
    /// How waiting conversations are offered to agents.
    Routing {
        /// How long an offer stands.
        ring: Span,
        /// How long an agent who did not take an offer is not asked again.
        refusal: Span,
        /// For how long an online agent may be without a socket before it is offered nothing more.
        absence: Span,
        /// For how long, before its conversations return to their queues.
        release: MaybeSpan,
    }
);

section!(
    /// Sizes, rates and times.
    Limits {
        /// One WebSocket message, and one request's body.
        message: Bytes,
        /// The body of one HTTP request that holds several.
        batch: Bytes,
        /// Characters of a plain text.
        text: usize,
        /// Characters of rich content.
        rich: usize,
        /// Requests of one connection that may wait.
        pending: usize,
        /// Open connections.
        connections: usize,
        /// Open connections of one address.
        connections_per_address: usize,
        /// For a request's head.
        head_timeout: Span,
        /// For an idle HTTP connection.
        keep_alive: Span,
        /// For a request's body, or a WebSocket message once begun.
        body_timeout: Span,
        /// For a socket to say who it is.
        identify_timeout: Span,
        /// For a silent socket.
        idle: Span,
        /// How often a socket is pinged.
        ping: Span,
        /// For one write.
        write_timeout: Span,
        /// Bad frames in a row.
        bad_frames: u32,
        /// Attempts per login and address.
        logins_per_minute: u32,
        /// App tokens and sign-ups per address.
        token_calls_per_minute: u32,
        /// Files that one consumer or agent may put into the store.
        uploads_per_minute: u32,
        /// Calls of OnceHub's API of one address in five minutes.
        oncehub_per_address: u32,
    }
);

section!(
    /// How webhooks are tried, and where installed ones may lead.
    WebhookSettings {
        /// The waits between the attempts at one event of an application that says nothing of retries.
        schedule: Vec<Span>,
        /// The first wait of an application that has its events tried for a time; then it doubles.
        retry_wait: Span,
        /// The wait between attempts that are counted.
        number_wait: Span,
        /// For a connection to be made.
        connect_timeout: Span,
        /// For an answer's head, from the beginning of the attempt.
        answer_timeout: Span,
        /// Conversations of one endpoint that are posted at a time.
        concurrency: usize,
        /// Where an installed application's endpoint may lead although it is not public.
        allow: Vec<Allowed>,
        /// The ports that an installed application's endpoint may have, and where an attachment may be fetched.
        ports: Vec<u16>,
    }
);

section!(
    /// How long what is over is kept.
    Retention {
        /// Closed conversations, from their last change on; none: for ever.
        conversations: MaybeSpan,
        /// Uploads that nothing shows; none: for ever.
        uploads: MaybeSpan,
        /// Webhooks that were given up.
        dead_letters: Span,
        /// What is known of attempts at webhooks, and of where events went.
        traces: Span,
    }
);

section!(
    /// How long tokens live.
    Tokens {
        /// An AppJWT.
        app: Span,
        /// The token of a consumer that signed up itself.
        consumer: Span,
        /// An agent's login.
        agent: Span,
    }
);

section!(
    /// What is logged, and how.
    Log {
        /// A level or a filter.
        level: String,
        /// Text or JSON.
        format: LogFormat,
    }
);

/// Limits that a reload may replace. Whoever works on one thing for a while takes those that hold at its beginning.
pub type LiveLimits = Arc<ArcSwap<Limits>>;

/// Times that a reload may replace.
pub type LiveRetention = Arc<ArcSwap<Retention>>;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its id, in every URL.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its UUID, for dialects that show only such; none: made of `id`.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Its applications.
    #[serde(default)]
    pub apps: Vec<App>,
    /// Its agents.
    #[serde(default)]
    pub agents: Vec<Agent>,
    /// Its queues.
    #[serde(default)]
    pub queues: Vec<Queue>,
    /// How long nobody may write before a conversation is closed.
    #[serde(default)]
    pub silence: MaybeSpan,
    /// How long a consumer may be silent before a conversation that it began counts as abandoned.
    #[serde(default)]
    pub abandoned_after: MaybeSpan,
    /// What consumers whose clients know automatic messages are told behind their first message.
    #[serde(default)]
    pub welcome: String,
    /// What consumers are asked when a conversation is closed.
    #[serde(default)]
    pub survey: Option<Survey>,
    /// Where its consumers sign in.
    #[serde(default)]
    pub sign_in: Vec<SignIn>,
    /// The keys of programs that use other vendors' APIs.
    #[serde(default)]
    pub api_keys: Vec<ApiKey>,
    /// Programs that agents may let act for them.
    #[serde(default)]
    pub oauth_apps: Vec<OAuthApp>,
    /// The queue of conversations whose opener names none; none: that of conversations without one.
    #[serde(default)]
    pub default_queue: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<things::Tag>,
    /// What its conversations and consumers may have.
    #[serde(default)]
    pub attributes: Vec<things::Attribute>,
    /// At what it can be reached.
    #[serde(default)]
    pub contact_endpoints: Vec<things::ContactEndpoint>,
    /// How conversations come in.
    #[serde(default)]
    pub flows: Vec<things::Flow>,
    /// Where its consumers write.
    #[serde(default)]
    pub websites: Vec<things::Website>,
    /// Its groups of visitors.
    #[serde(default)]
    pub audiences: Vec<things::Audience>,
    /// Its programs that answer.
    #[serde(default)]
    pub bots: Vec<things::Bot>,
    /// Where its integrations meet.
    #[serde(default)]
    pub hubs: Vec<things::Hub>,
    /// The ways to these.
    #[serde(default)]
    pub integrations: Vec<things::Integration>,
}

/// Questions behind a conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// For conversations of which queues; all, if empty.
    #[serde(default)]
    pub queues: Vec<String>,
    /// How long the consumer has.
    #[serde(default = "default_survey_time")]
    pub time: Span,
    /// What is said at the end.
    #[serde(default)]
    pub thanks: String,
    /// The questions, in order.
    pub questions: Vec<Question>,
}

fn default_survey_time() -> Span {
    Span(Duration::from_secs(7 * 86_400))
}

/// One question of a survey.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name, shown in metadata.
    pub id: String,
    /// What is asked.
    pub text: String,
    /// What counts as an answer.
    pub kind: QuestionKind,
    /// The answers, for `choice`.
    #[serde(default)]
    pub choices: Vec<String>,
}

/// What counts as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuestionKind {
    /// A number from 1 to 5; it becomes the conversation's rating.
    Csat,
    /// Yes or no; it becomes the rating's "is the matter settled".
    Resolved,
    /// One of `choices`.
    Choice,
    /// Anything.
    Text,
}

/// An application.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// What it may do.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// What `sequence` means in its SEND replies.
    #[serde(default)]
    pub reply_sequence: ReplySequence,
    /// By what way its consumers write, for dialects that show that. None: a messenger of the brand's own.
    #[serde(default, deserialize_with = "channel")]
    pub channel: Option<Channel>,
    /// What it may have beyond its scopes.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// How its webhooks are signed.
    #[serde(default)]
    pub webhook_signature: WebhookSignature,
    /// How long a webhook that fails is tried again, with waits that double. None: as often as `webhooks.schedule` says.
    #[serde(default)]
    pub webhook_retention: Option<Span>,
    /// Standard Webhooks secrets: the first signs, both while they are exchanged. None: the client secret's bytes are the key.
    #[serde(default)]
    pub webhook_secrets: Vec<WebhookSecret>,
    /// Where its events are posted.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
}

fn channel<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Channel>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let unknown = || de::Error::custom(format!("{name:?} is no channel; write one of {}", Channel::names().collect::<Vec<_>>().join(", ")));
    Channel::parse(&name).map(Some).ok_or_else(unknown)
}

fn default_scopes() -> Vec<String> {
    vec!["msg.consumer".into()]
}

/// What `sequence` means in SEND replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplySequence {
    /// The event's position in its dialog.
    #[default]
    Position,
    /// Twice how often this very request was stored before in that conversation.
    ResendCount,
}

/// An agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Digits.
    pub user_id: String,
    /// The name to sign in with.
    pub login: String,
    /// The password, or
    #[serde(default)]
    pub password: Option<SecretString>,
    /// its Argon2 hash.
    #[serde(default)]
    pub password_hash: Option<SecretString>,
    /// The name to show.
    #[serde(default)]
    pub name: String,
    /// The mail address to show. None: one is made up that no mail reaches.
    #[serde(default)]
    pub email: Option<String>,
    /// The telephone number to show.
    #[serde(default)]
    pub phone: Option<String>,
    /// What the agent may do.
    #[serde(default = "default_roles")]
    pub roles: Vec<crate::domain::AgentRole>,
    /// The queues it serves.
    #[serde(default = "default_skills")]
    pub skills: Vec<String>,
    /// How many conversations it is given at a time.
    #[serde(default = "default_capacity")]
    pub capacity: usize,
}

fn default_skills() -> Vec<String> {
    vec!["-1".into()]
}

fn default_capacity() -> usize {
    5
}

fn default_roles() -> Vec<crate::domain::AgentRole> {
    vec![crate::domain::AgentRole::Agent]
}

/// A queue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Its id, the vendor's skill id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| {
            de::Error::custom(format!("{text:?} is no address; write an IP address and a port, such as \"127.0.0.1:8080\""))
        })?;
        Ok(Self(Some(address)))
    }
}

/// A length of time, longer than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no length of time; write a number with its unit, such as \"15s\", \"500ms\" or \"1h\"");
        // Days are the calendar's and no length of time to a parser that knows of summer time; here one is 24 hours.
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        let signed = match days {
            Some(days) => jiff::SignedDuration::from_hours(24 * i64::from(days)),
            None => text.parse().map_err(|_| wrong())?,
        };
        let span = Duration::try_from(signed).map_err(|_| wrong())?;
        if span.is_zero() { Err(wrong()) } else { Ok(Self(span)) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A length of time, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaybeSpan(pub Option<Duration>);

impl<'de> Deserialize<'de> for MaybeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse::<Span>().map(|span| Self(Some(span.0))).map_err(de::Error::custom)
    }
}

/// A size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text[digits.len()..].trim() {
            "B" | "" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size = unit.and_then(|unit: usize| digits.trim().parse::<usize>().ok()?.checked_mul(unit)).filter(|size| *size > 0);
        size.map(Self)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no size; write a number with its unit, such as \"64KiB\" or \"1MiB\"")))
    }
}

impl Limits {
    /// What an event is held to.
    #[must_use]
    pub fn events(&self) -> EventLimits {
        EventLimits { text: self.text, rich: self.rich }
    }
}

impl Config {
    /// The embedded defaults alone.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn defaults() -> Self {
        Self::from_parts(None, []).expect("the embedded defaults are valid; a test reads them")
    }

    /// Reads the configuration: from a file, which must be there; or from `config.toml` in the working directory, if
    /// it is there; under the environment's variables.
    ///
    /// # Errors
    /// [`ConfigError`], for the operator to read.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with(file, [])
    }

    /// As [`Config::load`], under settings that the command line makes, written as variables.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(file: Option<&Path>, more: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = read(file)?;
        let text = text.as_ref().map(|(file, text)| (file.as_str(), text.as_str()));
        Self::from_parts(text, std::env::vars().chain(more))
    }

    /// Puts a configuration together from a file's name and text and a set of variables.
    ///
    /// # Errors
    /// [`ConfigError`], for the operator to read.
    pub fn from_parts(file: Option<(&str, &str)>, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        Self::from_table(effective(file, variables)?)
    }

    fn from_table(table: toml::Table) -> Result<Self, ConfigError> {
        let fail = |error: toml::de::Error| ConfigError::Value { key: "configuration".into(), reason: error.message().to_owned() };
        let fixed = Fixed::of(&table);
        let mut config: Self = table.try_into().map_err(fail)?;
        config.allow_loopback_webhooks = config.server.dev;
        config.fixed = fixed;
        config.replace_demo_secrets();
        config.validate()?;
        Ok(config)
    }

    /// Reads the configuration as [`Config::load`] does, and returns it as TOML, secrets hidden.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn show(file: Option<&Path>) -> Result<String, ConfigError> {
        let text = read(file)?;
        let mut table = effective(text.as_ref().map(|(file, text)| (file.as_str(), text.as_str())), std::env::vars())?;
        Self::from_table(table.clone())?;
        hide(&mut table);
        Ok(toml::to_string(&table).unwrap_or_default())
    }

    /// The names of settings that are others in another configuration, and that only a start can change.
    #[must_use]
    pub fn fixed_differences(&self, other: &Self) -> Vec<String> {
        // Both have every setting: the defaults lie under them.
        self.fixed.0.iter().filter(|(name, value)| other.fixed.0.get(*name) != Some(*value)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether webhooks go without TLS only where whoever starts the gateway allows.
    ///
    /// # Errors
    /// [`ConfigError`] that names an endpoint without TLS which neither `webhooks.allow` lists, nor is on this machine while
    /// [`Config::allow_loopback_webhooks`] is set.
    pub fn check_endpoints(&self) -> Result<(), ConfigError> {
        for account in &self.accounts {
            for app in &account.apps {
                let refused = |hook: &&Webhook| {
                    hook.endpoint.as_ref().is_some_and(|endpoint| !self.webhooks.lets_send(endpoint, self.allow_loopback_webhooks))
                };
                if let Some(hook) = app.webhooks.iter().find(refused) {
                    return Err(ConfigError::Value {
                        key: format!("accounts.{}.apps.{}.webhooks", account.id, app.client_id),
                        reason: format!("the endpoint of {} must be https; {}", hook.event, webhook::WAYS),
                    });
                }
            }
        }
        Ok(())
    }

    /// What `/admin` asks for; none switches it off. A double for tests that only this machine can reach has a key that is
    /// known.
    #[must_use]
    pub fn admin_key(&self) -> Option<SecretString> {
        match self.internal.admin_key.as_str() {
            "" if self.server.dev && !self.is_exposed() && is_local(self.internal.listen) => Some(DEV_ADMIN_KEY.into()),
            "" => None,
            key => Some(key.into()),
        }
    }

    /// Whether strangers may reach a listener.
    fn is_exposed(&self) -> bool {
        !is_local(self.server.listen) || !is_local(self.server.tls.listen)
    }

    /// The demo secrets are public knowledge, so they hold on loopback only.
    fn replace_demo_secrets(&mut self) {
        if !self.is_exposed() {
            return;
        }
        for account in &mut self.accounts {
            let secrets = account.apps.iter_mut().map(|app| (app.client_id.clone(), &mut app.client_secret));
            let passwords = account.agents.iter_mut().filter_map(|agent| Some((agent.login.clone(), agent.password.as_mut()?)));
            // A key has no name of its own that it must have.
            let keys = account.api_keys.iter_mut().map(|key| (key.key.expose_secret().to_owned(), &mut key.key));
            for (name, secret) in secrets.chain(passwords).chain(keys) {
                if DEFAULTS.contains(&format!("\"{}\"", secret.expose_secret())) {
                    *secret = instead_of_demo(&name).into();
                }
            }
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, reason: String| Err(ConfigError::Value { key: key.into(), reason });
        if self.server.listen.0.is_none() && self.server.tls.listen.0.is_none() {
            return fail("server.listen", "there is no address to listen on; write one, such as \"127.0.0.1:8080\"".into());
        }
        let tls = &self.server.tls;
        let (cert, key) = (!tls.cert.as_os_str().is_empty(), !tls.key.as_os_str().is_empty());
        if cert != key {
            return fail("server.tls", "cert and key go together; write both or neither".into());
        }
        if tls.listen.0.is_some() && !cert && !tls.self_signed {
            return fail("server.tls", "a TLS listener needs cert and key, or self_signed = true".into());
        }
        for dialect in &self.server.dialects {
            if !DIALECTS.contains(&dialect.as_str()) {
                return fail("server.dialects", format!("{dialect:?} is not served by this version; write any of {DIALECTS:?}"));
            }
        }
        for origin in &self.server.allowed_origins {
            if let Err(reason) = check_origin(origin) {
                return fail("server.allowed_origins", reason);
            }
        }
        let limits = &self.limits;
        let counts = [
            ("text", limits.text),
            ("rich", limits.rich),
            ("pending", limits.pending),
            ("connections", limits.connections),
            ("connections_per_address", limits.connections_per_address),
            ("bad_frames", limits.bad_frames as usize),
            ("logins_per_minute", limits.logins_per_minute as usize),
            ("token_calls_per_minute", limits.token_calls_per_minute as usize),
            ("uploads_per_minute", limits.uploads_per_minute as usize),
            ("oncehub_per_address", limits.oncehub_per_address as usize),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return fail(&format!("limits.{name}"), "it must be at least 1".into());
        }
        for (name, size) in [("message", limits.message), ("batch", limits.batch)] {
            if !(1024..=LARGEST_BODY).contains(&size.0) {
                return fail(&format!("limits.{name}"), "it must be between 1KiB and 64MiB".into());
            }
        }
        let spans = [
            ("server.drain", self.server.drain),
            ("limits.head_timeout", limits.head_timeout),
            ("limits.keep_alive", limits.keep_alive),
            ("limits.body_timeout", limits.body_timeout),
            ("limits.identify_timeout", limits.identify_timeout),
            ("limits.idle", limits.idle),
            ("limits.ping", limits.ping),
            ("limits.write_timeout", limits.write_timeout),
            ("files.fetch_timeout", self.files.fetch_timeout),
            ("files.fetch_connect_timeout", self.files.fetch_connect_timeout),
            ("webhooks.retry_wait", self.webhooks.retry_wait),
            ("webhooks.number_wait", self.webhooks.number_wait),
            ("webhooks.connect_timeout", self.webhooks.connect_timeout),
            ("webhooks.answer_timeout", self.webhooks.answer_timeout),
            ("retention.conversations", Span(self.retention.conversations.0.unwrap_or_default())),
            ("retention.uploads", Span(self.retention.uploads.0.unwrap_or_default())),
            ("retention.dead_letters", self.retention.dead_letters),
            ("retention.traces", self.retention.traces),
            ("tokens.app", self.tokens.app),
            ("tokens.consumer", self.tokens.consumer),
            ("tokens.agent", self.tokens.agent),
            ("routing.ring", self.routing.ring),
            ("routing.refusal", self.routing.refusal),
            ("routing.absence", self.routing.absence),
            ("routing.release", Span(self.routing.release.0.unwrap_or_default())),
        ];
        if let Some((name, _)) = spans.into_iter().find(|(_, span)| span.0 > LONGEST_SPAN) {
            return fail(name, "it must be at most ten years".into());
        }
        if !(1..=MOST_FETCHES).contains(&self.files.fetch_concurrency) {
            return fail("files.fetch_concurrency", format!("it must be between 1 and {MOST_FETCHES}"));
        }
        if let Err((name, reason)) = self.webhooks.validate() {
            return fail(&format!("webhooks.{name}"), reason);
        }
        // Shorter, and whatever waits is written to the journal at every look.
        if let Some(name) =
            [("ring", self.routing.ring), ("refusal", self.routing.refusal)].into_iter().find(|(_, span)| span.0 < SHORTEST_OFFER)
        {
            return fail(&format!("routing.{}", name.0), "it must be at least 100ms".into());
        }
        if self.limits.ping.0 >= self.limits.idle.0 {
            return fail("limits.ping", "ping must be shorter than idle, or healthy sockets are closed as idle".into());
        }
        for file in [&tls.cert, &tls.key].into_iter().filter(|_| tls.listen.0.is_some() && cert) {
            if !file.is_file() {
                return fail("server.tls", format!("there is no file {}", file.display()));
            }
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.level) {
            return fail("log.level", format!("{error}; write error, warn, info, debug, trace, or a filter"));
        }
        self.validate_accounts()
    }

    fn validate_accounts(&self) -> Result<(), ConfigError> {
        let fail = |key: String, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        let mut accounts = HashSet::new();
        let (mut keys, mut oauth_apps) = (HashMap::new(), HashMap::new());
        let mut uuids = HashSet::new();
        for account in &self.accounts {
            let at = |what: &str| format!("accounts.{}.{what}", account.id);
            if account.id.is_empty() || !account.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                return fail(format!("accounts.id {:?}", account.id), "an account's id is letters, digits, - and _");
            }
            if !accounts.insert(&account.id) {
                return fail(at("id"), "there are two accounts with this id");
            }
            let mut seen = HashSet::new();
            for app in &account.apps {
                if app.client_id.is_empty() || app.client_secret.expose_secret().is_empty() {
                    return fail(at("apps"), "client_id and client_secret must not be empty");
                }
                if !seen.insert(format!("app {}", app.client_id)) {
                    return fail(at("apps"), "two applications have the same client_id");
                }
                if let Err(reason) = webhook::check(app) {
                    return fail(at(&format!("apps.{}", app.client_id)), &reason);
                }
            }
            for agent in &account.agents {
                if agent.user_id.is_empty() || !agent.user_id.chars().all(|c| c.is_ascii_digit()) {
                    return fail(at(&format!("agents.{}", agent.login)), "user_id must be digits, such as \"1001\"");
                }
                let hash = agent.password_hash.as_ref().map(ExposeSecret::expose_secret);
                if hash.is_some_and(|hash| !hash.starts_with("$argon2") || argon2::password_hash::phc::PasswordHash::new(hash).is_err()) {
                    return fail(at(&format!("agents.{}", agent.login)), "password_hash is no Argon2 string, such as \"$argon2id$v=19$…\"");
                }
                if agent.password.is_some() == agent.password_hash.is_some() {
                    return fail(at(&format!("agents.{}", agent.login)), "write either password or password_hash");
                }
                if agent.user_id == BOT {
                    return fail(at(&format!("agents.{}", agent.login)), "user_id 0 is the gateway's own; choose another");
                }
                let known = |skill: &String| skill == "-1" || account.queues.iter().any(|queue| queue.id == *skill);
                if !agent.skills.iter().all(known) {
                    return fail(at(&format!("agents.{}", agent.login)), "skills must be ids of the account's queues, or \"-1\"");
                }
                let refused = |reason: String| ConfigError::Value { key: at(&format!("agents.{}", agent.login)), reason };
                if let Some(email) = &agent.email {
                    check_email(email).map_err(|reason| refused(format!("email {reason}")))?;
                    if !seen.insert(format!("email {}", email.to_lowercase())) {
                        return fail(at("agents"), "two agents have the same email");
                    }
                }
                if let Some(phone) = &agent.phone {
                    check_phone(phone).map_err(|reason| refused(format!("phone {reason}")))?;
                }
                if !seen.insert(format!("login {}", agent.login)) || !seen.insert(format!("user {}", agent.user_id)) {
                    return fail(at("agents"), "two agents have the same login or user_id");
                }
            }
            if let Some(survey) = &account.survey {
                if let Some(unknown) =
                    survey.queues.iter().find(|queue| *queue != "-1" && !account.queues.iter().any(|known| known.id == **queue))
                {
                    return fail(at("survey"), &format!("{unknown:?} is no queue of the account"));
                }
                validate_survey(survey).map_err(|reason| ConfigError::Value { key: at("survey"), reason })?;
            }
            if account.abandoned_after.0.is_some_and(|silence| !(SHORTEST_OFFER..=LONGEST_SPAN).contains(&silence)) {
                return fail(at("abandoned_after"), "it must be between 100ms and ten years");
            }
            if account.silence.0.is_some_and(|silence| !(SHORTEST_OFFER..=LONGEST_SPAN).contains(&silence)) {
                return fail(at("silence"), "it must be between 100ms and ten years");
            }
            for queue in &account.queues {
                if !seen.insert(format!("queue {}", queue.id)) {
                    return fail(at("queues"), "two queues have the same id");
                }
            }
            sign_in::validate(&account.id, &account.sign_in)?;
            api_key::validate(account, &mut keys).map_err(|reason| ConfigError::Value { key: at("api_keys"), reason })?;
            oauth_app::validate(account, &mut oauth_apps).map_err(|reason| ConfigError::Value { key: at("oauth_apps"), reason })?;
            things::validate(account).map_err(|(place, reason)| ConfigError::Value { key: at(&place), reason })?;
            // Whoever names one of them names nothing else.
            if let Some(twice) = account.given_uuids().find(|uuid| !uuids.insert(*uuid)) {
                return fail(at("uuid"), &format!("{twice} is given twice; each account, hub and integration needs a UUID of its own"));
            }
        }
        Ok(())
    }
}

/// What stands for the demo secret of somebody where strangers could use it: the same until the process ends.
fn instead_of_demo(name: &str) -> String {
    static MADE: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let random = crate::random::secret();
        // Said here once: there is no other place from which the operator could learn it.
        eprintln!(
            "tieline: the demo secret of {name:?} is replaced, because a listener is not on loopback; it is {random} until the next start"
        );
        random
    };
    made.entry(name.to_owned()).or_insert_with(make).clone()
}

/// Whether only this machine reaches an address, or there is none.
fn is_local(listen: Listen) -> bool {
    listen.0.is_none_or(|address| address.ip().is_loopback())
}

/// The number of the gateway's own agent, as whom it leads surveys and says what is automatic.
pub const BOT: &str = "0";

fn validate_survey(survey: &Survey) -> Result<(), String> {
    if survey.questions.is_empty() {
        return Err("a survey without questions asks nothing; write [[accounts.survey.questions]]".into());
    }
    if survey.time.0 > LONGEST_SPAN {
        return Err("time must be at most ten years".into());
    }
    let mut ids = HashSet::new();
    for question in &survey.questions {
        let at = |reason: &str| Err(format!("question {:?}: {reason}", question.id));
        if question.id.is_empty() || !ids.insert(&question.id) {
            return at("each question needs an id of its own");
        }
        if question.text.is_empty() || question.text.chars().count() > 1_000 {
            return at("text must have 1 to 1000 characters");
        }
        if (question.kind == QuestionKind::Choice) == question.choices.is_empty() {
            return at("choices go with kind = \"choice\" and with no other");
        }
    }
    Ok(())
}

/// The file's name and text, if there is a file.
fn read(file: Option<&Path>) -> Result<Option<(String, String)>, ConfigError> {
    let here = Path::new("config.toml");
    let Some(path) = file.or_else(|| here.is_file().then_some(here)) else { return Ok(None) };
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((file, text))),
        Err(error) => Err(ConfigError::File { file, reason: error.to_string() }),
    }
}

/// The defaults, under the file, under the variables.
fn effective(file: Option<(&str, &str)>, variables: impl IntoIterator<Item = (String, String)>) -> Result<toml::Table, ConfigError> {
    let mut table = parse("built-in config.toml", DEFAULTS)?;
    if let Some((name, text)) = file {
        if let Err(error) = toml::from_str::<<Config as Section>::Partial>(text) {
            return Err(located(name, text, &error));
        }
        merge(&mut table, parse(name, text)?);
    }
    for (variable, text) in variables {
        if let Some(path) = variable.strip_prefix(PREFIX) {
            set(&mut table, &variable, path, text)?;
        }
    }
    Ok(table)
}

/// Replaces secrets by a word.
fn hide(table: &mut toml::Table) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => hide(inner),
            toml::Value::Array(list) if key == "webhook_secrets" => list.iter_mut().for_each(|secret| *secret = "(hidden)".into()),
            toml::Value::Array(list) if key == "api_keys" => {
                let keys = list.iter_mut().filter_map(toml::Value::as_table_mut);
                keys.filter_map(|entry| entry.get_mut("key")).for_each(|secret| *secret = "(hidden)".into());
            }
            toml::Value::Array(list) => list.iter_mut().filter_map(toml::Value::as_table_mut).for_each(hide),
            // Credentials may stand in a query.
            toml::Value::String(url) if ["url", "endpoint", "jwks_url"].contains(&key.as_str()) && url.contains('?') => {
                let place = url.find('?').unwrap_or(url.len());
                url.replace_range(place.., "?(hidden)");
            }
            // `value` is that of a webhook's header, where a receiver's own credential may stand.
            value if ["client_secret", "password", "password_hash", "admin_key", "value"].contains(&key.as_str()) => {
                *value = "(hidden)".into()
            }
            _ => {}
        }
    }
}

fn parse(file: &str, text: &str) -> Result<toml::Table, ConfigError> {
    toml::from_str(text).map_err(|error| located(file, text, &error))
}

fn located(file: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |place| place + 1);
    let column = text[start..at].chars().count() + 1;
    let shown = text[start..].lines().next().unwrap_or_default();
    let reason = error.message().trim_end();
    // Errors end up on terminals and in logs of builds, and what is nearly a secret is one letter away from it.
    let (reason, excerpt) = if may_hold_secret(&text[..start], shown) {
        let expected = reason.rfind("expected").map_or(reason, |place| &reason[place..]);
        (expected, "  | (not shown, because it may hold a secret)".to_owned())
    } else {
        (reason, format!("  | {shown}\n  | {}^", " ".repeat(column - 1)))
    };
    ConfigError::Text { file: file.into(), line, column, reason: reason.to_owned(), excerpt }
}

/// Whether a line names a setting that holds a secret, or goes on with one that an earlier line names.
fn may_hold_secret(before: &str, line: &str) -> bool {
    const SECRETS: [&str; 6] = ["secret", "password", "key", "headers", "value", "url"];
    let names_one = |line: &str| SECRETS.iter().any(|name| line.contains(name));
    let begins = |line: &str| line.contains('=') || line.trim_start().starts_with('[');
    let opener = before.lines().rev().find(|line| begins(line)).filter(|_| !begins(line));
    names_one(line) || opener.is_some_and(names_one)
}

/// Lays one table over another. Lists replace lists.
fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Sets the setting that a variable names; the default's type says how its text is read.
fn set(table: &mut toml::Table, variable: &str, path: &str, text: String) -> Result<(), ConfigError> {
    let fail = |reason: String| Err(ConfigError::Variable { variable: variable.to_owned(), reason });
    let lower = path.to_lowercase();
    let (path, from_file) = match lower.strip_suffix("_file") {
        Some(path) => (path, true),
        None => (lower.as_str(), false),
    };
    let text = match from_file {
        false => text,
        true => match std::fs::read_to_string(&text) {
            Ok(content) => content.trim_end().to_owned(),
            Err(error) => return fail(format!("{text}: {error}")),
        },
    };
    let mut place = table;
    let mut names = path.split("__").peekable();
    while let Some(name) = names.next() {
        let known = place.keys().cloned().collect::<Vec<_>>().join(", ");
        let Some(found) = place.get_mut(name) else {
            return fail(format!("there is no setting {path:?}; at this place there are: {known}"));
        };
        match found {
            toml::Value::Table(inner) if names.peek().is_some() => place = inner,
            toml::Value::String(old) if names.peek().is_none() => {
                old.clone_from(&text);
                return check_alone(table_of(path, toml::Value::String(text)), variable);
            }
            toml::Value::Integer(old) if names.peek().is_none() => match text.parse() {
                Ok(number) => {
                    *old = number;
                    return check_alone(table_of(path, toml::Value::Integer(number)), variable);
                }
                Err(_) => return fail(format!("{text:?} is no whole number")),
            },
            toml::Value::Boolean(old) if names.peek().is_none() => match text.parse() {
                Ok(flag) => {
                    *old = flag;
                    return Ok(());
                }
                Err(_) => return fail(format!("{text:?} is neither true nor false")),
            },
            _ => return fail("only single values can be set by a variable; write lists and sections into the file".into()),
        }
    }
    Ok(())
}

fn table_of(path: &str, value: toml::Value) -> toml::Table {
    let (first, rest) = path.split_once("__").map_or((path, None), |(first, rest)| (first, Some(rest)));
    let inner = rest.map_or_else(|| value.clone(), |rest| toml::Value::Table(table_of(rest, value.clone())));
    toml::Table::from_iter([(first.to_owned(), inner)])
}

/// A variable's value must be what a file could write at its place, so that the error can name the variable.
fn check_alone(table: toml::Table, variable: &str) -> Result<(), ConfigError> {
    match table.try_into::<<Config as Section>::Partial>() {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError::Variable { variable: variable.to_owned(), reason: error.message().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::from_parts(Some(("my.toml", text)), [])
    }

    #[test]
    fn the_defaults_are_valid_and_shown_as_they_are() {
        let defaults = Config::defaults();
        assert_eq!(defaults.accounts[0].apps[0].client_secret.expose_secret(), "demo-connector-secret");
        let mut table = effective(None, []).unwrap();
        hide(&mut table);
        let shown = toml::to_string(&table).unwrap();
        assert!(
            shown.contains("(hidden)") && !shown.contains("ada-demo") && !shown.contains("demo-connector-secret"),
            "secrets are hidden"
        );
        assert_eq!(toml::from_str::<toml::Table>(&shown).unwrap(), table);
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let config = load("[server]\nlisten = \"127.0.0.1:9\"\n[limits]\nidle = \"2m\"").unwrap();
        assert_eq!(config.server.listen.0.unwrap().port(), 9);
        assert_eq!(config.limits.idle, Span(Duration::from_secs(120)));
        assert_eq!(config.limits.ping, Span(Duration::from_secs(25)));
        let waits: Vec<u64> = config.webhooks.schedule.iter().map(|wait| wait.0.as_secs()).collect();
        assert_eq!(waits, [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]);
        assert_eq!((config.webhooks.concurrency, &*config.webhooks.ports), (8, &[80, 443, 8080, 8443][..]));
        assert_eq!(config.accounts.len(), 1);
    }

    #[test]
    fn an_error_names_file_line_column_and_what_to_write() {
        for (text, place, reason) in [
            ("[server]\nlisten = \"here\"", "my.toml:2:10", "write an IP address and a port"),
            ("[server]\nlissten = \"\"", "my.toml:2:1", "unknown field `lissten`, expected one of `listen`"),
            ("[limits]\nidle = \"soon\"", "my.toml:2:8", "such as \"15s\""),
            ("[limits]\nidle = 5", "my.toml:2:8", "expected a string"),
            ("[limits]\nmessage = \"64 lots\"", "my.toml:2:11", "such as \"64KiB\""),
            ("[server", "my.toml:1:8", ""),
            ("[limits]\nwebhook_retry = \"2s\"", "my.toml:2:1", "unknown field `webhook_retry`"),
            ("[webhooks]\nretry_wait = \"0s\"", "my.toml:2:14", "such as \"15s\""),
            ("[webhooks]\nports = [65536]", "my.toml:2:10", "expected u16"),
            ("[webhooks]\nallow = [\"10.1.2.0/16\"]", "my.toml:2:9", "write \"10.1.0.0/16\""),
            ("[files]\nfetch_allow = [\"10.1.2.0/16\"]", "my.toml:2:15", "write \"10.1.0.0/16\""),
            ("[[accounts]]\nnames = 1", "my.toml:2:1", "unknown field `names`"),
        ] {
            let said = load(text).unwrap_err().to_string();
            assert!(said.starts_with(place), "{text}: {said}");
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn no_error_shows_what_may_be_a_secret() {
        for (text, place) in [
            ("[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"x\"\nclient_secret = hunter2hunter2", "my.toml:5:17"),
            ("[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"x\"\nclient_secret = 42424242", "my.toml:5:17"),
            (
                "[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"x\"\nclient_secret = \"y\"\nwebhook_secrets = [\"hunter2\"]",
                "my.toml:6:",
            ),
            (
                "[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"x\"\nclient_secret = \"y\"\nwebhook_secrets = [\n  \"hunter2\",\n]",
                "my.toml:",
            ),
            ("[internal]\nadmin_key = [\"hunter2\"]", "my.toml:2:13"),
            ("[[accounts]]\napps = [{ client_id = 7, client_secret = \"hunter2\" }]", "my.toml:2:23"),
        ] {
            let said = load(text).unwrap_err().to_string();
            assert!(said.starts_with(place), "{text}: {said}");
            assert!(!said.contains("hunter2") && !said.contains("4242") && said.contains("not shown"), "{text}: {said}");
        }
    }

    #[test]
    fn settings_that_do_not_go_together_are_named() {
        for (text, key) in [
            ("[server]\nlisten = \"\"", "server.listen"),
            ("[server.tls]\nlisten = \"127.0.0.1:1\"", "server.tls"),
            ("[server]\ndialects = [\"smoke\"]", "server.dialects"),
            ("[limits]\nping = \"2m\"", "limits.ping"),
            ("[limits]\npending = 0", "limits.pending"),
            ("[limits]\nbad_frames = 0", "limits.bad_frames"),
            ("[webhooks]\nschedule = []", "webhooks.schedule"),
            ("[webhooks]\nschedule = [\"1000000000000000000s\"]", "webhooks.schedule"),
            ("[webhooks]\nretry_wait = \"1000000000000000000s\"", "webhooks.retry_wait"),
            ("[files]\nfetch_timeout = \"1000000000000000000s\"", "files.fetch_timeout"),
            ("[files]\nfetch_concurrency = 0", "files.fetch_concurrency"),
            ("[files]\nfetch_concurrency = 257", "files.fetch_concurrency"),
            ("[webhooks]\nconcurrency = 0", "webhooks.concurrency"),
            ("[webhooks]\nconcurrency = 257", "webhooks.concurrency"),
            ("[webhooks]\nports = [443, 0]", "webhooks.ports"),
            ("[retention]\ntraces = \"1000000000000000000s\"", "retention.traces"),
            ("[limits]\nmessage = \"18446744073709551615B\"", "limits.message"),
            ("[tokens]\nagent = \"1000000000000000000s\"", "tokens.agent"),
            ("[[accounts]]\nid = \"a b\"", "accounts.id"),
            ("[log]\nlevel = \"a=b=c\"", "log.level"),
            ("[server.tls]\nlisten = \"127.0.0.1:1\"\ncert = \"/none\"\nkey = \"/none\"", "server.tls"),
            ("[[accounts]]\nid = \"a\"\n[[accounts.agents]]\nuser_id = \"1\"\nlogin = \"x\"\npassword_hash = \"x\"", "accounts.a.agents.x"),
            ("[[accounts]]\nid = \"a\"\n[[accounts]]\nid = \"a\"", "accounts.a.id"),
            (
                "[[accounts]]\nid = \"a\"\n[[accounts.sign_in]]\nid = \"x\"\nissuer = \"i\"\naudience = \"\"\njwks_url = \"https://x/\"",
                "accounts.a.sign_in.x",
            ),
            ("[[accounts]]\nid = \"a\"\n[[accounts.agents]]\nuser_id = \"x\"\nlogin = \"x\"\npassword = \"x\"", "accounts.a.agents.x"),
        ] {
            let said = load(text).unwrap_err().to_string();
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }

    /// An account with entries of some lists, each with its members, of which `|` separates the lines.
    fn account(lists: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let entry = |(list, members): &(&str, &str)| format!("[[accounts.{list}]]\n{}\n", members.replace('|', "\n").replace('\'', "\""));
        load(&format!("[[accounts]]\nid = \"a\"\n{}", lists.iter().map(entry).collect::<String>()))
    }

    #[test]
    fn api_keys_that_cannot_be_are_refused_and_none_is_shown() {
        let ada = ("agents", "user_id = '1'|login = 'ada'|password = 'x'");
        let dixa = ("api_keys", "dialect = 'dixa'|key = 'hunter2'");
        let once = ("api_keys", "dialect = 'oncehub'|key = 'hunter2'");
        let good = account(&[ada, ("api_keys", "dialect = 'dixa'|key = 'hunter2'|agent = '1'"), once]).unwrap();
        let rates: Vec<KeyRate> = good.accounts[0].api_keys.iter().map(ApiKey::rate).collect();
        let rate = |per_second, burst, per_day| KeyRate { per_second, burst, per_day };
        assert_eq!(rates, [rate(10, 4, Some(864_000)), rate(5, 5, None)]);
        let own = account(&[("api_keys", "dialect = 'dixa'|key = 'x'|per_second = 20|per_day = 5")]).unwrap();
        assert_eq!(own.accounts[0].api_keys[0].rate(), rate(20, 20, Some(5)));
        for (lists, said) in [
            (vec![dixa, dixa], "key 2 for dixa is there already, in this account"),
            (vec![("api_keys", "dialect = 'dixa'|key = ''")], "key 1 is empty"),
            (vec![("api_keys", "dialect = 'dixa'|key = 'hunter 2'")], "without spaces"),
            (vec![("api_keys", "dialect = 'dixa'|key = 'hunter2'|agent = '9'")], "\"9\" is no agent of the account"),
            (vec![("api_keys", "dialect = 'dixa'|key = 'hunter2'|burst = 0")], "at least 1"),
            (vec![once, ("api_keys", "dialect = 'oncehub'|key = 'x'|per_second = 9")], "share one rate"),
        ] {
            let refused = account(&lists).unwrap_err().to_string();
            assert!(refused.starts_with("accounts.a.api_keys: ") && refused.contains(said), "{lists:?}: {refused}");
            assert!(!refused.contains("hunter"), "{refused}");
        }
        let two = "[[accounts]]\nid = \"a\"\n[[accounts.api_keys]]\ndialect = \"dixa\"\nkey = \"hunter2\"\n";
        let refused = load(&format!("{two}{}", two.replacen("\"a\"", "\"b\"", 1))).unwrap_err().to_string();
        assert!(refused.starts_with("accounts.b.api_keys: ") && refused.contains("in account \"a\""), "{refused}");
        for wrong in ["key = hunter2hunter2", "key = 4242", "kee = \"hunter2\"\nkey = 1"] {
            let refused =
                load(&format!("[[accounts]]\nid = \"a\"\n[[accounts.api_keys]]\ndialect = \"dixa\"\n{wrong}")).unwrap_err().to_string();
            assert!(!refused.contains("42") && (wrong.starts_with("kee") || !refused.contains("hunter2")), "{refused}");
        }
        let mut table = effective(None, []).unwrap();
        assert!(toml::to_string(&table).unwrap().contains("demo-dixa-key"));
        hide(&mut table);
        let shown = toml::to_string(&table).unwrap();
        assert!(!shown.contains("demo-dixa-key") && !shown.contains("demo-oncehub-key") && shown.contains("dialect = \"dixa\""), "{shown}");
        // Where it is a file's name it is shown.
        let mut table = toml::from_str::<toml::Table>("[server.tls]\nkey = \"key.pem\"").unwrap();
        hide(&mut table);
        assert!(toml::to_string(&table).unwrap().contains("key.pem"));
    }

    #[test]
    fn things_that_cannot_be_are_refused_by_their_names() {
        let mail = ("contact_endpoints", "id = 'mail'|address = 'a@b'");
        let everything = [
            ("tags", "id = 'vip'|name = 'VIP'|color = '#1e90ff'|active = false"),
            ("attributes", "id = 'topic'|entity = 'contact'|identifier = 'topic'|label = 'Topic'|options = ['A', ['B', 'C']]"),
            mail,
            ("contact_endpoints", "id = 'phone'|number = '+45 1234'|functionality = ['Sms']"),
            ("flows", "id = 'mail'|name = 'Mail'|channel = 'Email'|contact_endpoint = 'mail'"),
            ("websites", "id = 'shop'|name = 'Shop'|url = 'https://shop.example'"),
            ("audiences", "id = 'x'|name = 'X'"),
            ("bots", "id = 'x'|name = 'X'"),
            ("hubs", "id = 'x'|name = 'X'"),
        ];
        account(&everything).unwrap();
        for (lists, key, said) in [
            (vec![("tags", "id = ''|name = 'x'")], "tags.", "an id of its own"),
            (vec![("tags", "id = 'x'|name = 'x'"), ("tags", "id = 'x'|name = 'y'")], "tags.x", "an id of its own"),
            (vec![("tags", "id = 'x'|name = 'x'"), ("tags", "id = 'y'|name = 'X'")], "tags.y", "\"x\" has the same name"),
            (vec![("tags", "id = 'x'|name = 'x'|color = 'red'")], "tags.x", "#1e90ff"),
            (vec![("contact_endpoints", "id = 'x'")], "contact_endpoints.x", "either address or number"),
            (vec![("contact_endpoints", "id = 'x'|address = 'a@b'|number = '123'")], "contact_endpoints.x", "either address or number"),
            (vec![("contact_endpoints", "id = 'x'|address = 'a@b'|functionality = ['x']")], "contact_endpoints.x", "goes with number"),
            (vec![mail, ("flows", "id = 'x'|name = 'x'|channel = 'x'|contact_endpoint = 'y'")], "flows.x", "\"y\" is the id of no"),
            (vec![("websites", "id = 'x'|name = 'x'|url = 'shop'")], "websites.x", "https://shop.example/"),
            (vec![("agents", "user_id = '1'|login = 'x'|password = 'x'|email = 'x'")], "agents.x", "email must be"),
            (vec![("agents", "user_id = '1'|login = 'x'|password = 'x'|phone = 'x'")], "agents.x", "phone must be"),
        ] {
            let refused = account(&lists).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("accounts.a.{key}")) && refused.contains(said), "{lists:?}: {refused}");
        }
        let refused = load("[[accounts]]\nid = \"a\"\ndefault_queue = \"7\"").unwrap_err().to_string();
        assert!(refused.starts_with("accounts.a.default_queue: \"7\" is no queue"), "{refused}");
    }

    #[test]
    fn variables_win_and_are_named_when_wrong() {
        let with = |variable: &str, value: &str| Config::from_parts(None, [(variable.to_owned(), value.to_owned())]);
        assert_eq!(with("TIELINE__SERVER__LISTEN", "127.0.0.1:9").unwrap().server.listen.0.unwrap().port(), 9);
        assert_eq!(with("TIELINE__LIMITS__PENDING", "7").unwrap().limits.pending, 7);
        assert!(with("TIELINE__SERVER__TLS__SELF_SIGNED", "true").unwrap().server.tls.self_signed);
        for (variable, value) in [
            ("TIELINE__SERVER__LISTEN", "here"),
            ("TIELINE__SERVER__LISSTEN", ""),
            ("TIELINE__LIMITS__PENDING", "many"),
            ("TIELINE__LIMITS__IDLE", "5"),
            ("TIELINE__ACCOUNTS", "x"),
            ("TIELINE__SERVER__DATA_DIR_FILE", "/nonexistent"),
        ] {
            assert!(with(variable, value).unwrap_err().to_string().starts_with(variable), "{variable}");
        }
    }

    #[test]
    fn demo_secrets_do_not_hold_where_strangers_can_reach() {
        let config = load("[server]\nlisten = \"0.0.0.0:8080\"").unwrap();
        assert_ne!(config.accounts[0].apps[0].client_secret.expose_secret(), "demo-connector-secret");
        assert_ne!(config.accounts[0].agents[0].password.as_ref().unwrap().expose_secret(), "ada-demo");
        let keys: Vec<&str> = config.accounts[0].api_keys.iter().map(|key| key.key.expose_secret()).collect();
        // One for each that the defaults have, and each another.
        let all = DEFAULTS.matches("\n[[accounts.api_keys]]").count();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), all, "{keys:?}");
        assert!(all > 2 && keys.iter().all(|key| key.len() > 24), "{keys:?}");
    }
}
