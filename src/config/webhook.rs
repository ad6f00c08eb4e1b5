//! The webhooks of an application: which event goes where, with which headers.

use super::{App, LONGEST_SPAN, Span};
use axum::http::{HeaderName, HeaderValue};
use reqwest::Url;
use serde::{Deserialize, Deserializer, de};
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;
use tieline_protocol::webhook::EVENTS;

/// The capability without which an application has no webhooks.
const CAPABILITY: &str = "webhooks";
/// Most retries that the vendor knows.
const MOST_RETRIES: u32 = 5;

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
    /// The type of event.
    pub event: String,
    /// Where it is posted.
    pub endpoint: Endpoint,
    /// None: tried again until the retention ends. 0: tried once and not waited for.
    #[serde(default)]
    pub max_retries: Option<u32>,
    /// Sent along.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// A URL that webhooks may be posted to: https, or http to this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(pub Url);

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

pub(super) fn default_retention() -> Span {
    Span(Duration::from_secs(3 * 86_400))
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

impl std::str::FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url =
            Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}; write one such as \"https://shop.example/lp\""))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an endpoint holds no user and no password; write them as a header".into());
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            _ => Err(format!("{text:?} is not understood: an endpoint must be https, such as \"https://shop.example/lp\"")),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl<'de> Deserialize<'de> for Endpoint {
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
        if ours.contains(&known.as_str()) || known.as_str().starts_with("x-liveperson-") {
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
    if app.webhook_retention.0 > LONGEST_SPAN {
        return Err("webhook_retention must be at most ten years".into());
    }
    let mut seen = HashSet::new();
    for hook in &app.webhooks {
        if !EVENTS.contains(&hook.event.as_str()) {
            return Err(format!("the event {:?} is not known; write one of {}", hook.event, EVENTS.join(", ")));
        }
        if !seen.insert(&hook.event) {
            return Err(format!("there are two webhooks for {}", hook.event));
        }
        if hook.max_retries.is_some_and(|retries| retries > MOST_RETRIES) {
            return Err(format!("max_retries must be 0 to {MOST_RETRIES}"));
        }
    }
    Ok(())
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
        let config = load("capabilities = [\"webhooks\"]\nwebhook_retention = \"2d\"", &hook).unwrap();
        let app = &config.accounts[0].apps[0];
        assert_eq!(app.webhook_retention, Span(Duration::from_secs(2 * 86_400)));
        assert_eq!(app.webhooks[0].headers[0].value, "hush");
        let shown = format!("{app:?}");
        assert!(!shown.contains("hush") && !shown.contains("hidden"), "{shown}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[[accounts]]\nid = \"a\"\n[[accounts.apps]]\nclient_id = \"c\"\nclient_secret = \"s\"\ncapabilities = [\"webhooks\"]";
        std::fs::write(file.path(), format!("{text}\n[[accounts.apps.webhooks]]\n{hook}")).unwrap();
        let shown = Config::show(Some(file.path())).unwrap();
        assert!(shown.contains("X-Shop") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_wrong_webhook_is_named() {
        let endpoint = "endpoint = \"https://shop.example/\"";
        let app = "capabilities = [\"webhooks\"]";
        for (app, hook, said) in [
            ("", format!("{CONTENT}\n{endpoint}"), "accounts.a.apps.c: an application with webhooks needs capabilities"),
            ("capabilities = [\"more\"]", format!("{CONTENT}\n{endpoint}"), "the capability \"more\" is not known"),
            (app, format!("event = \"x\"\n{endpoint}"), "the event \"x\" is not known; write one of ms."),
            (app, format!("{CONTENT}\n{endpoint}\n[[accounts.apps.webhooks]]\n{CONTENT}\n{endpoint}"), "there are two webhooks for ms."),
            (app, format!("{CONTENT}\n{endpoint}\nmax_retries = 6"), "max_retries must be 0 to 5"),
            (app, format!("{CONTENT}\nendpoint = \"http://shop.example/\""), "my.toml:9:12: \"http://shop.example/\" is not understood"),
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
    fn http_to_this_machine_is_for_who_asks_for_it() {
        for host in ["127.0.0.1:9", "localhost", "[::1]:9"] {
            let mut config = load("capabilities = [\"webhooks\"]", &format!("{CONTENT}\nendpoint = \"http://{host}/lp\"")).unwrap();
            let refused = config.check_endpoints().unwrap_err().to_string();
            assert!(refused.starts_with("accounts.a.apps.c.webhooks: the endpoint of ms."), "{refused}");
            config.allow_loopback_webhooks = true;
            config.check_endpoints().unwrap();
        }
    }
}
