//! What the commands that talk to a running gateway share: where it is, how to trust it, what it answered.

use super::ServerArgs;
use crate::config::Config;
use anyhow::{Context, bail};
use reqwest::{RequestBuilder, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tieline_bench::engine::Target;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// How long a request may take: longer than the slowest, which tests a webhook's endpoint.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// A running gateway.
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
    ca: Option<Vec<CertificateDer<'static>>>,
}

/// A gateway's refusal of a request.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {text}")]
pub(super) struct Refused {
    pub(super) status: reqwest::StatusCode,
    pub(super) text: String,
    /// For how long the gateway asks to be left alone.
    pub(super) wait: Option<Duration>,
}

/// For how long to wait before the same is asked again, if the answer says that this will help.
pub(super) fn told_to_wait(status: u16, headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let seconds = || headers.get("retry-after")?.to_str().ok()?.parse().ok();
    matches!(status, 429 | 503).then(|| Duration::from_secs(seconds().unwrap_or(1)))
}

/// Either kind of byte stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A WebSocket to the gateway.
pub(super) type Socket = WebSocketStream<Box<dyn Io>>;

impl Client {
    pub(super) fn new(config: &Config, server: &ServerArgs) -> anyhow::Result<Self> {
        let own = || match (config.server.listen.0, config.server.tls.listen.0) {
            (Some(address), _) => format!("http://{address}"),
            (None, Some(address)) => format!("https://{address}"),
            (None, None) => "http://127.0.0.1:8080".to_owned(),
        };
        let url = server.url.clone().unwrap_or_else(own);
        let base = Url::parse(&url).with_context(|| format!("{url:?} is no URL; write one such as http://127.0.0.1:8080"))?;
        let mut http = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let mut ca = None;
        if let Some(file) = &server.ca {
            let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
            http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
            ca = Some(
                CertificateDer::pem_slice_iter(&pem)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?,
            );
        }
        Ok(Self { base, http: http.build()?, ca })
    }

    /// To where the health pages and the admin's calls are.
    pub(super) fn internal(config: &Config, server: &ServerArgs) -> anyhow::Result<Self> {
        let mut server = server.clone();
        if let (None, Some(address)) = (&server.url, config.internal.listen.0) {
            server.url = Some(format!("http://{address}"));
        }
        Self::new(config, &server)
    }

    /// A path of these parts, whatever they hold: none of them leads elsewhere.
    pub(super) fn path(parts: &[&str]) -> anyhow::Result<String> {
        let mut url = Url::parse("http://gateway/")?;
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.clear().extend(parts)),
            Err(()) => bail!("no path can be made of {parts:?}"),
        }
        // The parser takes these two for steps, escaped or not.
        match parts.iter().find(|part| matches!(**part, "." | ".." | "")) {
            Some(part) => bail!("{part:?} is the name of nothing"),
            None => Ok(url.path().to_owned()),
        }
    }

    pub(super) fn delete(&self, path: &str) -> anyhow::Result<RequestBuilder> {
        Ok(self.http.delete(self.base.join(path)?))
    }

    pub(super) fn post(&self, path: &str) -> anyhow::Result<RequestBuilder> {
        Ok(self.http.post(self.base.join(path)?))
    }

    pub(super) fn put(&self, path: &str) -> anyhow::Result<RequestBuilder> {
        Ok(self.http.put(self.base.join(path)?))
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<RequestBuilder> {
        Ok(self.http.get(self.base.join(path)?))
    }

    /// A request that was changed after it was built.
    pub(super) fn again(&self, request: reqwest::Request) -> RequestBuilder {
        RequestBuilder::from_parts(self.http.clone(), request)
    }

    /// Sends a request and reads the JSON it is answered with.
    pub(super) async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let response = request.send().await.with_context(|| format!("{} does not answer; is `tieline serve` running there?", self.base))?;
        let status = response.status();
        let wait = told_to_wait(status.as_u16(), response.headers());
        let text = response.text().await?;
        if !status.is_success() {
            return Err(Refused { status, text, wait }.into());
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("this is not what a gateway answers: {text:.200}"))
    }

    /// An AppJWT, for the secret in the configuration.
    pub(super) async fn app_token(&self, config: &Config, account: &str, client_id: Option<&str>) -> anyhow::Result<String> {
        let known = config
            .accounts
            .iter()
            .find(|known| known.id == account)
            .with_context(|| format!("there is no account {account:?} in the configuration"))?;
        let app = known.apps.iter().find(|app| client_id.is_none_or(|id| app.client_id == id));
        let app = app.with_context(|| format!("account {account:?} has no such application in the configuration"))?;
        let form = [
            ("client_id", app.client_id.as_str()),
            ("client_secret", app.client_secret.expose_secret()),
            ("grant_type", "client_credentials"),
        ];
        let answer = self.json(self.post(&format!("/sentinel/api/account/{account}/app/token?v=1.0"))?.form(&form)).await?;
        text(&answer, "access_token")
    }

    /// Opens a WebSocket.
    pub(super) async fn socket(&self, path: &str, authorization: &str) -> anyhow::Result<Socket> {
        self.socket_with(path, &[("authorization", authorization)]).await
    }

    /// Opens a WebSocket, with headers of its own.
    pub(super) async fn socket_with(&self, path: &str, headers: &[(&'static str, &str)]) -> anyhow::Result<Socket> {
        let mut url = self.base.join(path)?;
        let is_tls = url.scheme() == "https";
        url.set_scheme(if is_tls { "wss" } else { "ws" }).map_err(|()| anyhow::anyhow!("the URL must be http or https"))?;
        let (host, port) = self.place()?;
        let stream = TcpStream::connect((host.as_str(), port)).await.with_context(|| format!("{} does not answer", self.base))?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Io> = if is_tls { Box::new(self.tls(stream, &host).await?) } else { Box::new(stream) };
        let mut request = url.as_str().into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(socket)
    }

    /// Host and port.
    fn place(&self) -> anyhow::Result<(String, u16)> {
        let host = self.base.host_str().context("the URL names no host")?.trim_matches(['[', ']']).to_owned();
        Ok((host, self.base.port_or_known_default().context("the URL names no port")?))
    }

    /// Where load is sent to.
    pub(super) async fn target(&self) -> anyhow::Result<Target> {
        let (host, port) = self.place()?;
        let address = tokio::net::lookup_host((host.as_str(), port)).await?.next();
        let tls = (self.base.scheme() == "https").then(|| self.connector(&host)).transpose()?;
        let authority = self.base.authority().to_owned();
        Ok(Target { address: address.with_context(|| format!("{host} has no address"))?, authority, tls })
    }

    async fn tls(&self, stream: TcpStream, host: &str) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let (connector, name) = self.connector(host)?;
        Ok(connector.connect(name, stream).await?)
    }

    fn connector(&self, host: &str) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
        let ca = self.ca.as_ref().context("name the CA that signed the gateway's certificate with --ca, such as data/tls/ca.pem")?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in ca {
            roots.add(certificate.clone())?;
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from(host.to_owned())?))
    }
}

/// A text member of an answer.
pub(super) fn text(answer: &Value, member: &str) -> anyhow::Result<String> {
    answer[member].as_str().map(str::to_owned).with_context(|| format!("the answer has no {member}: {answer}"))
}

/// An agent's password: the one given, or the configuration's.
pub(super) fn password(config: &Config, account: &str, login: &str, given: Option<&str>) -> anyhow::Result<String> {
    let configured = || {
        let account = config.accounts.iter().find(|known| known.id == account)?;
        let agent = account.agents.iter().find(|agent| agent.login == login)?;
        agent.password.as_ref().map(|password| password.expose_secret().to_owned())
    };
    given
        .map(str::to_owned)
        .or_else(configured)
        .with_context(|| format!("the configuration has no password for the agent {login:?}; give it with --password or TIELINE_PASSWORD"))
}

/// Text from others on one line: it must not steer the terminal.
pub(super) fn calm(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `tieline health`
pub(super) async fn health(config: Config, server: ServerArgs) -> anyhow::Result<ExitCode> {
    let client = Client::internal(&config, &server)?;
    let answer = client.json(client.get("/readyz")?).await?;
    println!("{}", text(&answer, "status")?);
    Ok(ExitCode::SUCCESS)
}

/// Splits `consumer:ann` into its kind and its name.
pub(super) fn identity(text: &str, kind: &str) -> anyhow::Result<String> {
    match text.split_once(':') {
        Some((given, name)) if given == kind && !name.is_empty() => Ok(name.to_owned()),
        _ => bail!("--as {text:?} is not understood; write {kind}:NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn no_part_of_a_path_leads_elsewhere() {
        let path = |part: &str| Client::path(&["admin", part, "trace"]);
        for (part, escaped) in
            [("a-b:12", "a-b:12"), ("a/../../b", "a%2F..%2F..%2Fb"), ("x?y=1#z", "x%3Fy=1%23z"), ("ä 1", "%C3%A4%201"), ("%2e", "%252e")]
        {
            assert_eq!(path(part).unwrap(), format!("/admin/{escaped}/trace"));
        }
        for part in ["", ".", ".."] {
            assert!(path(part).is_err(), "{part:?}");
        }
    }
}
