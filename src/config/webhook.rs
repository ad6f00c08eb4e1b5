//! The webhooks of an application: which event goes where, with which headers; and where endpoints may lead.

use super::{App, LONGEST_SPAN, WebhookSettings};
use axum::http::{HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Deserializer, de};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tieline_protocol::webhook::{EVENTS, TYPING};

/// Every type of event that has no line of its own.
pub const ANY_EVENT: &str = "*";

/// The capability without which an application has no webhooks.
const CAPABILITY: &str = "webhooks";
/// Most retries that the vendor knows.
const MOST_RETRIES: u32 = 5;
/// Most waits of a schedule, and most conversations of an endpoint at a time.
const MOST_WAITS: usize = 32;
const MOST_AT_A_TIME: usize = 256;
/// Most secrets: the one that holds, and the one that it follows.
const MOST_SECRETS: usize = 2;
/// How many bytes a secret stands for; Standard Webhooks'.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;
/// The longest URL, in bytes.
const LONGEST_URL: usize = 2_048;
/// How an endpoint may be http all the same.
pub(super) const WAYS: &str = "http is for a host that webhooks.allow lists, and for this machine under `tieline serve --dev`";

/// How webhooks are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookSignature {
    /// HMAC-SHA1, the vendor's default.
    #[default]
    Sha1,
    /// HMAC-SHA256.
    Sha256,
}

/// Where events of one type go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The type of event, or [`ANY_EVENT`].
    pub event: String,
    /// Where it is posted, or
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// it is fetched by GET.
    #[serde(default)]
    pub pull: bool,
    /// Also of conversations that were not opened through the application.
    #[serde(default)]
    pub all: bool,
    /// Whether anything is sent.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// So many retries, 0 to 5. None: as often as the application says.
    #[serde(default)]
    pub max_retries: Option<u32>,
    /// Sent along.
    #[serde(default)]
    pub headers: Vec<Header>,
}

fn yes() -> bool {
    true
}

/// A URL that webhooks may be posted to, or that an attachment may be fetched from: https or http, a host, perhaps a port; no
/// user. Where it may lead, and whether it may be http, others say.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(pub Url);

/// A Standard Webhooks secret. `Debug` does not print it.
#[derive(Clone)]
pub struct WebhookSecret(SecretSlice<u8>);

/// Where an endpoint may lead although it is not public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every address of a network.
    Network {
        /// Its first address.
        first: IpAddr,
        /// How many bits all its addresses have in common.
        bits: u32,
    },
    /// A host, wherever its name leads. In lower case, without a dot at the end.
    Name(String),
}

/// A header that is sent along. Its value is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value, which `Debug` does not print.
    pub value: HeaderValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    value: String,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`WrongUrl`].
    pub fn read(text: &str) -> Result<Self, WrongUrl> {
        if text.len() > LONGEST_URL {
            return Err(WrongUrl::Long);
        }
        // The parser would take some of them out without a word, and it would be another URL than the one that was written.
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(WrongUrl::Characters);
        }
        let url = Url::parse(text).map_err(WrongUrl::Unreadable)?;
        if !["https", "http"].contains(&url.scheme()) {
            return Err(WrongUrl::Scheme);
        }
        if has_user(text) {
            return Err(WrongUrl::User);
        }
        Ok(Self(url))
    }

    /// The address, if the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// The host, without brackets and without a dot at the end.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.')
    }

    /// Whether it is http.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    fn is_loopback(&self) -> bool {
        self.host() == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the query, where people put keys.
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}{}", self.0.scheme(), self.0.host_str().unwrap_or_default(), self.0.path())
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Why a text is no URL that is asked for anything, whatever it leads to. Nothing of the text is in it: that may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongUrl {
    /// It is too long.
    #[error("it has more than {LONGEST_URL} bytes")]
    Long,
    /// It holds what is not written into URLs.
    #[error("it holds spaces or control characters; write them as %20 and the like")]
    Characters,
    /// It cannot be read.
    #[error("it is no URL: {0}; write one such as \"https://files.example/a.png\"")]
    Unreadable(<Url as std::str::FromStr>::Err),
    /// It is of another scheme.
    #[error("it must be https")]
    Scheme,
    /// It names a user.
    #[error("it holds a user or a password, which are not sent")]
    User,
}

impl std::str::FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|wrong| match wrong {
            WrongUrl::Long => format!("an endpoint has at most {LONGEST_URL} bytes"),
            WrongUrl::Characters => "an endpoint holds no spaces and no control characters; write them as %20 and the like".into(),
            WrongUrl::Unreadable(error) => format!("{text:?} is no URL: {error}; write one such as \"https://shop.example/lp\""),
            WrongUrl::Scheme => format!("{text:?} is not understood: an endpoint must be https, such as \"https://shop.example/lp\""),
            WrongUrl::User => "an endpoint holds no user and no password; write them as a header".into(),
        })
    }
}

/// Whether a URL names a user, be it an empty one, which the parser takes out without a word.
fn has_user(text: &str) -> bool {
    let behind = text.split_once(':').map_or("", |(_, behind)| behind).trim_start_matches(['/', '\\']);
    behind.split(['/', '\\', '?', '#']).next().unwrap_or_default().contains('@')
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl WebhookSecret {
    /// The bytes that sign.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(hidden)")
    }
}

impl PartialEq for WebhookSecret {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for WebhookSecret {}

impl std::str::FromStr for WebhookSecret {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let key = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok()).filter(|key| SECRET.contains(&key.len()));
        // Not what was written: it may be nearly a secret.
        let key = key.ok_or("a webhook secret is \"whsec_\" and the base64 of 24 to 64 random bytes")?;
        Ok(Self(key.into()))
    }
}

impl<'de> Deserialize<'de> for WebhookSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Allowed {
    /// This machine, by its addresses and its name.
    pub(crate) fn this_machine() -> [Self; 3] {
        let network = |first: IpAddr, bits| Self::Network { first, bits };
        [network(Ipv4Addr::new(127, 0, 0, 0).into(), 8), network(Ipv6Addr::LOCALHOST.into(), 128), Self::Name("localhost".into())]
    }

    /// Whether an address is in this network.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match self {
            Self::Network { first, bits } => address.is_ipv4() == first.is_ipv4() && first_of(address, *bits) == *first,
            Self::Name(_) => false,
        }
    }

    /// Whether a host is listed: by its name, or as an address of this network.
    #[must_use]
    pub fn lists(&self, host: &str) -> bool {
        match self {
            Self::Network { .. } => host.parse().is_ok_and(|address| self.holds(address)),
            Self::Name(name) => name.eq_ignore_ascii_case(host.trim_end_matches('.')),
        }
    }
}

/// The first address of the network of so many bits that holds an address.
fn first_of(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into(),
    }
}

impl std::str::FromStr for Allowed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is neither a network, nor an address, nor a host's name; write one such as \"10.1.0.0/16\" or \"shop.internal\""
            )
        };
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most)).ok_or_else(wrong)?;
            let first = first_of(address, bits);
            if first != address {
                return Err(format!("{text:?} is an address inside of a network; write \"{first}/{bits}\" for all of the network"));
            }
            return Ok(Self::Network { first, bits });
        }
        // A name as an endpoint has it: what is an address to the URL parser, such as 127.1, is no name.
        let is_name = !text.contains(|c: char| c.is_control() || c.is_whitespace() || "/\\?#@:%[]".contains(c));
        let url = is_name.then(|| Url::parse(&format!("https://{text}/")).ok()).flatten().ok_or_else(wrong)?;
        let name = url.domain().map(|name| name.trim_end_matches('.')).filter(|name| !name.is_empty());
        name.map(|name| Self::Name(name.to_owned())).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl TryFrom<Written> for Header {
    type Error = String;
    fn try_from(Written { name, value }: Written) -> Result<Self, String> {
        let known: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header's name; write one such as \"X-Shop\""))?;
        // What the request itself is made of: a second one would say something else than the first.
        let ours = ["content-type", "content-length", "transfer-encoding", "connection", "host"];
        if ours.contains(&known.as_str()) || known.as_str().starts_with("x-liveperson-") || known.as_str().starts_with("webhook-") {
            return Err(format!("the header {name:?} is set by the gateway; write another"));
        }
        let mut value: HeaderValue =
            value.parse().map_err(|_| format!("the value of the header {name:?} cannot be sent; write plain text"))?;
        value.set_sensitive(true);
        Ok(Self { name: known, value })
    }
}

/// What is wrong with an application's webhooks, and what it should be.
pub(super) fn check(app: &App) -> Result<(), String> {
    if let Some(unknown) = app.capabilities.iter().find(|name| *name != CAPABILITY) {
        return Err(format!("the capability {unknown:?} is not known; write \"{CAPABILITY}\""));
    }
    if !app.webhooks.is_empty() && !app.has_webhooks() {
        return Err(format!("an application with webhooks needs capabilities = [\"{CAPABILITY}\"]"));
    }
    if app.webhook_retention.is_some_and(|retention| retention.0 > LONGEST_SPAN) {
        return Err("webhook_retention must be at most ten years".into());
    }
    check_secrets(&app.webhook_secrets)?;
    let mut seen = HashSet::new();
    for hook in &app.webhooks {
        hook.check()?;
        if !seen.insert((&hook.event, &hook.endpoint)) {
            let place = if hook.pull { "with pull = true" } else { "with the same endpoint" };
            return Err(format!("there are two webhooks for {} {place}; remove one", hook.event));
        }
    }
    Ok(())
}

/// What is wrong with a set of secrets.
///
/// # Errors
/// For whoever wrote them, with what to write instead.
pub fn check_secrets(secrets: &[WebhookSecret]) -> Result<(), String> {
    match secrets.len() {
        0..=MOST_SECRETS => Ok(()),
        _ => Err(format!("there are more than {MOST_SECRETS} webhook secrets; write the new one and the one before")),
    }
}

impl Webhook {
    /// What is wrong with it, leaving out where its endpoint leads.
    ///
    /// # Errors
    /// For whoever wrote it, with what to write instead.
    pub fn check(&self) -> Result<(), String> {
        if self.event != ANY_EVENT && !EVENTS.contains(&self.event.as_str()) {
            return Err(format!("the event {:?} is not known; write one of {}, or \"{ANY_EVENT}\"", self.event, EVENTS.join(", ")));
        }
        if self.endpoint.is_some() == self.pull {
            return Err(format!("the webhook for {} needs either an endpoint or pull = true", self.event));
        }
        if self.pull && (self.max_retries.is_some() || !self.headers.is_empty()) {
            return Err(format!("the webhook for {} is fetched; max_retries and headers go with an endpoint", self.event));
        }
        if self.pull && self.event == TYPING {
            return Err(format!("{TYPING} is in no log and cannot be fetched; write an endpoint"));
        }
        if self.max_retries.is_some_and(|retries| retries > MOST_RETRIES) {
            return Err(format!("max_retries must be 0 to {MOST_RETRIES}"));
        }
        Ok(())
    }
}

impl WebhookSettings {
    /// Whether `allow` lists an endpoint's host. It may then lead anywhere, to any port and without TLS.
    #[must_use]
    pub fn lists(&self, endpoint: &Endpoint) -> bool {
        self.allow.iter().any(|allowed| allowed.lists(endpoint.host()))
    }

    /// Whether an endpoint is https, or may be http: `allow` lists its host, or it is on this machine and that is allowed.
    #[must_use]
    pub fn lets_send(&self, endpoint: &Endpoint, allows_loopback: bool) -> bool {
        !endpoint.is_plain() || self.lists(endpoint) || (allows_loopback && endpoint.is_loopback())
    }

    /// What is wrong, by the name of a setting.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let fail = |name, reason: String| Err((name, reason));
        if !(1..=MOST_WAITS).contains(&self.schedule.len()) {
            return fail("schedule", format!("it must have 1 to {MOST_WAITS} waits, such as [\"5s\", \"5m\"]"));
        }
        if self.schedule.iter().any(|wait| wait.0 > LONGEST_SPAN) {
            return fail("schedule", "a wait must be at most ten years".into());
        }
        if !(1..=MOST_AT_A_TIME).contains(&self.concurrency) {
            return fail("concurrency", format!("it must be between 1 and {MOST_AT_A_TIME}"));
        }
        if self.ports.contains(&0) {
            return fail("ports", "0 is no port; write some such as [443, 8443]".into());
        }
        Ok(())
    }
}

impl App {
    /// Whether it may have webhooks.
    #[must_use]
    pub fn has_webhooks(&self) -> bool {
        self.capabilities.iter().any(|name| name == CAPABILITY)
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowed, Endpoint, WebhookSecret};
    use crate::config::{Config, ConfigError, Span};
    use std::time::Duration;

    const CONTENT: &str = "event = \"ms.MessagingEventNotification.ContentEvent\"";

    fn load(app: &str, hook: &str) -> Result<Config, ConfigError> {
        let text = format!(
            "[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"c\"\nclient_secret = \"s\"\n{app}\n[[accounts.apps.webhooks]]\n{hook}"
        );
        Config::from_parts(Some(("my.toml", &text)), [])
    }

    #[test]
    fn webhooks_are_read_and_their_headers_hidden() {
        let hook =
            format!("{CONTENT}\nendpoint = \"https://shop.example/lp?key=hidden\"\nheaders = [{{ name = \"X-Shop\", value = \"hush\" }}]");
        let secret = format!("whsec_{}", "c2VjcmV0".repeat(4));
        let app = format!("capabilities = [\"webhooks\"]\nwebhook_secrets = [\"{secret}\"]");
        let config = load(&format!("{app}\nwebhook_retention = \"2d\""), &hook).unwrap();
        let read = &config.accounts[0].apps[0];
        assert_eq!(read.webhook_retention, Some(Span(Duration::from_secs(2 * 86_400))));
        assert_eq!((read.webhooks[0].headers[0].value.as_bytes(), read.webhooks[0].enabled), (&b"hush"[..], true));
        assert_eq!(read.webhook_secrets[0].key(), "secret".repeat(4).as_bytes());
        let shown = format!("{read:?}");
        for secret in ["hush", "key=", "c2Vj", "115, 101"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"c\"\nclient_secret = \"s\"\n{app}");
        std::fs::write(file.path(), format!("{text}\n[[accounts.apps.webhooks]]\n{hook}")).unwrap();
        let shown = Config::show(Some(file.path())).unwrap();
        assert!(shown.contains("X-Shop") && !shown.contains("hush") && !shown.contains("key="), "{shown}");
        assert!(shown.contains("webhook_secrets = [\"(hidden)\"]") && !shown.contains("c2Vj"), "{shown}");
    }

    #[test]
    fn a_wrong_webhook_is_named() {
        let endpoint = "endpoint = \"https://shop.example/\"";
        let app = "capabilities = [\"webhooks\"]";
        const SECRET: &str = "\"whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\"";
        let two = |secrets: &str| format!("{app}\nwebhook_secrets = [{secrets}]");
        load(&two(&[SECRET; 2].join(", ")), &format!("{CONTENT}\n{endpoint}\n[[accounts.apps.webhooks]]\n{CONTENT}\npull = true")).unwrap();
        for (app, hook, said) in [
            ("", format!("{CONTENT}\n{endpoint}"), "accounts.a.apps.c: an application with webhooks needs capabilities"),
            ("capabilities = [\"more\"]", format!("{CONTENT}\n{endpoint}"), "the capability \"more\" is not known"),
            (app, format!("event = \"x\"\n{endpoint}"), "the event \"x\" is not known; write one of ms."),
            (app, format!("{CONTENT}\n{endpoint}\n[[accounts.apps.webhooks]]\n{CONTENT}\n{endpoint}"), "there are two webhooks for ms."),
            (app, format!("{CONTENT}\n{endpoint}\nmax_retries = 6"), "max_retries must be 0 to 5"),
            (
                app,
                "event = \"*\"\npull = true\n[[accounts.apps.webhooks]]\nevent = \"*\"\npull = true".into(),
                "two webhooks for * with pull",
            ),
            (app, CONTENT.into(), "needs either an endpoint or pull = true"),
            (app, format!("{CONTENT}\n{endpoint}\npull = true"), "needs either an endpoint or pull = true"),
            (app, format!("{CONTENT}\npull = true\nmax_retries = 1"), "max_retries and headers go with an endpoint"),
            (app, "event = \"ms.MessagingEventNotification.ChatStateEvent\"\npull = true".into(), "is in no log"),
            (app, format!("{CONTENT}\nendpoint = \"ws://shop.example/\""), "my.toml:9:12: \"ws://shop.example/\" is not understood"),
            (&two("\"short\""), format!("{CONTENT}\n{endpoint}"), "a webhook secret is \"whsec_\" and the base64"),
            (&two(&[SECRET; 3].join(", ")), format!("{CONTENT}\n{endpoint}"), "more than 2 webhook secrets"),
            (app, format!("{CONTENT}\n{endpoint}\nheaders = [{{ name = \"Webhook-Id\", value = \"x\" }}]"), "is set by the gateway"),
            (app, format!("{CONTENT}\nendpoint = \"shop\""), "my.toml:9:12: \"shop\" is no URL"),
            (app, format!("{CONTENT}\nendpoint = \"https://u:p@shop.example/\""), "an endpoint holds no user"),
            (app, format!("{CONTENT}\n{endpoint}\nheaders = [{{ name = \"Host\", value = \"x\" }}]"), "is set by the gateway"),
            (app, format!("{CONTENT}\n{endpoint}\nheaders = [{{ name = \"a b\", value = \"x\" }}]"), "is no header's name"),
        ] {
            let error = load(app, &hook).unwrap_err().to_string();
            assert!(error.contains(said), "{hook}: {error}");
        }
    }

    #[test]
    fn http_is_for_this_machine_and_for_listed_hosts() {
        let with = |host: &str| load("capabilities = [\"webhooks\"]", &format!("{CONTENT}\nendpoint = \"http://{host}/lp\"")).unwrap();
        for (host, is_loopback) in
            [("127.0.0.1:9", true), ("localhost", true), ("[::1]:9", true), ("shop.internal", false), ("10.1.0.9", false)]
        {
            let mut config = with(host);
            let refused = config.check_endpoints().unwrap_err().to_string();
            assert!(refused.starts_with("accounts.a.apps.c.webhooks: the endpoint of ms."), "{refused}");
            assert!(refused.contains("webhooks.allow") && refused.contains("serve --dev"), "{refused}");
            config.allow_loopback_webhooks = true;
            assert_eq!(config.check_endpoints().is_ok(), is_loopback, "{host}");
            config.allow_loopback_webhooks = false;
            config.webhooks.allow =
                ["Shop.Internal.", "10.1.0.0/16", "127.0.0.1", "::1", "localhost"].map(|text| text.parse().unwrap()).into();
            config.check_endpoints().unwrap();
        }
    }

    #[test]
    fn what_is_allowed_is_a_network_or_a_name() {
        for (text, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
            ("192.168.1.5", "192.168.1.5", "192.168.1.4"),
            ("fd00:1::/32", "fd00:1:ffff::1", "fd00:2::"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("::/0", "ffff::1", "1.2.3.4"),
            ("10.0.0.0/8", "10.0.0.1", "::ffff:10.0.0.1"),
        ] {
            let allowed: Allowed = text.parse().unwrap();
            for (address, is_inside) in [(inside, true), (outside, false)] {
                assert_eq!((allowed.holds(address.parse().unwrap()), allowed.lists(address)), (is_inside, is_inside), "{text}: {address}");
            }
            assert!(!allowed.lists("shop.internal"));
        }
        let name: Allowed = "Shop.Internal.".parse().unwrap();
        assert_eq!(name, Allowed::Name("shop.internal".into()));
        assert!(name.lists("SHOP.internal.") && !name.lists("a.shop.internal") && !name.holds("127.0.0.1".parse().unwrap()));
        assert_eq!("bücher.example".parse(), Ok(Allowed::Name("xn--bcher-kva.example".into())));
        for text in [
            "",
            ".",
            "10.1.0.0/33",
            "::/129",
            "10.1.0.0/",
            "10.1/16",
            "127.1",
            "0x7f000001",
            "[::1]",
            "a b",
            "shop:443",
            "https://a",
            "a/8",
        ] {
            assert!(text.parse::<Allowed>().unwrap_err().contains("write one such as"), "{text}");
        }
        assert!("10.1.2.3/16".parse::<Allowed>().unwrap_err().contains("write \"10.1.0.0/16\""));
        assert!("fd00:1::5/32".parse::<Allowed>().unwrap_err().contains("write \"fd00:1::/32\""));
    }

    #[test]
    fn an_endpoint_is_the_url_that_was_written() {
        for text in [
            "https://shop.example/a\r\nb",
            "https://shop.exa\tmple/",
            "https://shop.example/ x",
            " https://shop.example/",
            "https://a.example/\u{3000}",
        ] {
            assert!(text.parse::<Endpoint>().unwrap_err().contains("no control characters"), "{text:?}");
        }
        let long = |length: usize| format!("https://shop.example/{}", "a".repeat(length - 21)).parse::<Endpoint>();
        assert!(long(2_048).is_ok() && long(2_049).unwrap_err().contains("at most 2048 bytes"));
    }

    #[test]
    fn a_secret_has_a_length_and_is_not_repeated_in_errors() {
        use base64::Engine;
        let secret = |length: usize| format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(vec![7; length]));
        for (length, is_good) in [(23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(secret(length).parse::<WebhookSecret>().is_ok(), is_good, "{length}");
        }
        for text in [secret(32).replace("whsec_", ""), secret(32).replace("whsec_", "whsec-"), format!("{}!", secret(32))] {
            assert!(!text.parse::<WebhookSecret>().unwrap_err().contains(&secret(32)[6..20]));
        }
    }
}
