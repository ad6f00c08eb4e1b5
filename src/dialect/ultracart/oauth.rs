//! OAuth: an agent signs in on a page of ours for a program, which fetches tokens for the code that it is sent back with.
//!
//! Refusals are in OAuth's own form. The page is plain HTML, runs nothing and loads nothing; it cannot be framed.

use super::UltraCart;
use super::arn::Merchant;
use super::caller::read_body;
use super::error::Fault;
use crate::dialect::form;
use crate::identity::{Account, Asked, Denied, GrantTokens, OAuthApp, Scopes};
use crate::openapi::answers;
use crate::throttle::Wait;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Extension, Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use utoipa::openapi::{RefOr, Response as Described};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Letters of a challenge: a SHA-256 in base64 without padding.
const CHALLENGE: usize = 43;

/// The calls.
pub(super) fn calls() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(page, sign_in)).routes(routes!(token)).routes(routes!(revoke))
}

/// A refusal, in OAuth's form.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub(super) struct Said {
    error: &'static str,
    error_description: String,
}

#[derive(Debug)]
struct Refused {
    status: StatusCode,
    said: Said,
    wait: Option<Wait>,
}

impl Refused {
    fn of(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, said: Said { error, error_description: description.into() }, wait: None }
    }

    fn request(description: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    fn too_many(wait: Wait) -> Self {
        let description = format!("too many requests; wait {} s", wait.0);
        Self { wait: Some(wait), ..Self::of(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", description) }
    }

    /// Why there are no tokens for what was shown.
    fn grant(denied: Denied) -> Self {
        match denied {
            Denied::Invalid => {
                Self::of(StatusCode::BAD_REQUEST, "invalid_grant", "it is not valid, was used, was revoked, or is another's")
            }
            Denied::Unavailable => {
                let unavailable = Self::of(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", denied.to_string());
                Self { wait: Some(Wait(1)), ..unavailable }
            }
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::of(fault.status(), "invalid_request", fault.message().to_owned())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let is_client = self.said.error == "invalid_client";
        let mut response = (self.status, [(header::CACHE_CONTROL, "no-store")], Json(self.said)).into_response();
        if is_client {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        }
        match self.wait {
            Some(wait) => wait.say(response),
            None => response,
        }
    }
}

/// Why there are no tokens.
struct NotGiven;

impl IntoResponses for NotGiven {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let all = [
            (400, "What is shown is not valid, or the request is not."),
            (401, "The program is not known, or has another secret."),
            (413, "The body is too large."),
            (429, "Too many requests from this address; `Retry-After` says how long to wait."),
            (503, "The gateway cannot answer now; `Retry-After` says how long to wait."),
        ];
        answers::<Said>(all.map(|(status, why)| (status, why.to_owned())))
    }
}

type Members = HashMap<String, String>;

fn get<'m>(members: &'m Members, name: &str) -> Option<&'m str> {
    members.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// What a program shows to be given tokens.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read as a form; here it is described")]
struct TokenRequest {
    /// `authorization_code` or `refresh_token`.
    grant_type: String,
    client_id: String,
    /// Of a program that has one; it may also come by `Authorization: Basic`.
    client_secret: Option<String>,
    /// With `authorization_code`.
    code: Option<String>,
    /// With `authorization_code`: as it was when the agent was sent to sign in.
    redirect_uri: Option<String>,
    /// With `authorization_code`, if a challenge came with the request for it.
    code_verifier: Option<String>,
    /// With `refresh_token`.
    refresh_token: Option<String>,
}

/// Tokens.
#[derive(Debug, Serialize, ToSchema)]
struct TokenResponse {
    access_token: String,
    /// `bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: String,
    refresh_token: String,
    scope: String,
    merchant_id: String,
}

/// Gives a program tokens, for a code or for a refresh token.
#[utoipa::path(post, path = "/rest/v2/oauth/token", operation_id = "oauthAccessToken", tag = "oauth", security(()),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "They.", body = TokenResponse), NotGiven))]
async fn token(Extension(ultracart): Extension<Arc<UltraCart>>, request: Request) -> Result<Response, Refused> {
    let (members, account, app) = program(&ultracart, request).await?;
    let needed = |name: &'static str| get(&members, name).ok_or_else(|| Refused::request(format!("{name} is missing")));
    let identity = ultracart.gateway.identity();
    let given = match needed("grant_type")? {
        "authorization_code" => identity.redeem(&app, needed("code")?, needed("redirect_uri")?, get(&members, "code_verifier")).await,
        "refresh_token" => identity.renew(&app, needed("refresh_token")?).await,
        _ => {
            let description = "grant_type must be authorization_code or refresh_token";
            return Err(Refused::of(StatusCode::BAD_REQUEST, "unsupported_grant_type", description));
        }
    };
    let GrantTokens { access, access_time, refresh, scopes } = given.map_err(Refused::grant)?;
    let tokens = TokenResponse {
        access_token: access,
        token_type: "bearer",
        expires_in: access_time.as_secs().max(1).to_string(),
        refresh_token: refresh,
        scope: scopes.to_string(),
        merchant_id: Merchant::of(&account).as_str().to_owned(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response())
}

/// What a program gives back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read as a form; here it is described")]
struct RevokeRequest {
    client_id: String,
    client_secret: Option<String>,
    /// An access or a refresh token.
    token: String,
}

/// That it is given back.
#[derive(Debug, Serialize, ToSchema)]
struct RevokeResponse {
    message: &'static str,
    successful: bool,
}

/// Ends what an agent granted a program: the token, and all that were given with it. One that is no token any more is as good as ended.
#[utoipa::path(post, path = "/rest/v2/oauth/revoke", operation_id = "oauthRevoke", tag = "oauth", security(()),
    request_body(content = RevokeRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "It is ended.", body = RevokeResponse), NotGiven))]
async fn revoke(Extension(ultracart): Extension<Arc<UltraCart>>, request: Request) -> Result<Json<RevokeResponse>, Refused> {
    let (members, _, app) = program(&ultracart, request).await?;
    let token = get(&members, "token").ok_or_else(|| Refused::request("token is missing"))?;
    ultracart.gateway.identity().end_grant(&app, token).await.map_err(Refused::grant)?;
    Ok(Json(RevokeResponse { message: "The token holds no more.", successful: true }))
}

/// Which program sends a form, and what is in it.
async fn program(ultracart: &UltraCart, request: Request) -> Result<(Members, Arc<Account>, Arc<OAuthApp>), Refused> {
    let (parts, body) = request.into_parts();
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let limits = ultracart.limits.load_full();
    if let Some(address) = address {
        ultracart.token_calls.set(limits.token_calls_per_minute);
        ultracart.token_calls.check("", address).map_err(Refused::too_many)?;
    }
    let bytes = read_body(&limits, body).await?;
    let mut members: Members = form::members(&String::from_utf8_lossy(&bytes)).into_iter().collect();
    let directory = ultracart.gateway.identity().directory();
    let is_good = |(id, secret): &(String, String)| directory.oauth_app(id).is_some_and(|(_, app)| app.shows(Some(secret)));
    let shown = basic(&parts.headers);
    // If none is good, the last of them is refused.
    if let Some((id, secret)) = shown.iter().find(|pair| is_good(pair)).or(shown.last()).cloned() {
        members.extend([("client_id".to_owned(), id), ("client_secret".to_owned(), secret)]);
    }
    let unknown = || Refused::of(StatusCode::UNAUTHORIZED, "invalid_client", "the program is not known, or has another secret");
    let id = get(&members, "client_id").ok_or_else(|| Refused::request("client_id is missing"))?;
    let (account, app) = directory.oauth_app(id).ok_or_else(unknown)?;
    if !app.shows(get(&members, "client_secret")) {
        return Err(unknown());
    }
    Ok((members, account, app))
}

/// What a program says of itself in a header: its id and its secret, as they are, and as they are meant if they are written as in a
/// form. They should be; many are not.
fn basic(headers: &HeaderMap) -> Vec<(String, String)> {
    let pairs = || {
        let (word, text) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let text = STANDARD.decode(text.trim()).ok().filter(|_| word.eq_ignore_ascii_case("basic"))?;
        let (id, secret) = std::str::from_utf8(&text).ok()?.split_once(':')?;
        let read = |text: &str| form::members(&format!("x={}", text.replace('&', "%26"))).pop().map(|(_, value)| value);
        Some([Some((id.to_owned(), secret.to_owned())), read(id).zip(read(secret))].into_iter().flatten().collect())
    };
    pairs().unwrap_or_default()
}

/// What a program asks an agent for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The program.
    client_id: Option<String>,
    /// Where it is told the outcome; it may be left out where there is but one such address.
    redirect_uri: Option<String>,
    /// `code`.
    response_type: Option<String>,
    /// `conversation_read`, `conversation_write`, or both with a blank between them; both, if nothing is said.
    scope: Option<String>,
    /// Comes back as it is.
    state: Option<String>,
    /// The SHA-256 of a `code_verifier`, in URL-safe base64 without padding.
    code_challenge: Option<String>,
    /// `S256`.
    code_challenge_method: Option<String>,
}

/// What an agent sends.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read as a form; here it is described")]
struct SignIn {
    #[serde(flatten)]
    wanted: Wanted,
    login: Option<String>,
    password: Option<String>,
    /// Set where the agent does not want to.
    cancel: Option<String>,
}

/// A request that can be asked of an agent.
struct Understood {
    account: Arc<Account>,
    app: Arc<OAuthApp>,
    asked: Asked,
    wanted: Wanted,
}

/// The page on which an agent signs in for a program.
#[utoipa::path(get, path = "/rest/v2/oauth/authorize", operation_id = "oauthAuthorizePage", tag = "oauth", security(()), params(Wanted),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 303, description = "The program is told why not."),
        (status = 400, description = "The program, or its address, is not known.", body = String, content_type = "text/html"),
    ))]
async fn page(Extension(ultracart): Extension<Arc<UltraCart>>, query: Result<Query<Wanted>, QueryRejection>) -> Response {
    match understand(&ultracart, query.map(|query| query.0).unwrap_or_default()) {
        Ok(understood) => show(StatusCode::OK, &understood, None),
        Err(refused) => *refused,
    }
}

/// Signs an agent in, and sends it back to the program with a code.
#[utoipa::path(post, path = "/rest/v2/oauth/authorize", operation_id = "oauthAuthorize", tag = "oauth", security(()),
    request_body(content = SignIn, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "The program is told the code, or why not."),
        (status = 400, description = "The program or its address is not known, or another site sent this.", body = String,
         content_type = "text/html"),
        (status = 401, description = "The login or the password is wrong.", body = String, content_type = "text/html"),
        (status = 413, description = "The body is too large.", body = String, content_type = "text/html"),
        (status = 429, description = "Too many attempts.", body = String, content_type = "text/html"),
        (status = 503, description = "Nobody can sign in now.", body = String, content_type = "text/html"),
    ))]
async fn sign_in(Extension(ultracart): Extension<Arc<UltraCart>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let site = parts.headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site.is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return message(StatusCode::BAD_REQUEST, "This form was sent by another site.");
    }
    let bytes = match read_body(&ultracart.limits.load_full(), body).await {
        Ok(bytes) => bytes,
        Err(fault) => return message(fault.status(), fault.message()),
    };
    let members: Members = form::members(&String::from_utf8_lossy(&bytes)).into_iter().collect();
    let member = |name: &str| members.get(name).cloned();
    let wanted = Wanted {
        client_id: member("client_id"),
        redirect_uri: member("redirect_uri"),
        response_type: member("response_type"),
        scope: member("scope"),
        state: member("state"),
        code_challenge: member("code_challenge"),
        code_challenge_method: member("code_challenge_method"),
    };
    let understood = match understand(&ultracart, wanted) {
        Ok(understood) => understood,
        Err(refused) => return *refused,
    };
    if member("cancel").is_some() {
        return told(&understood.asked.redirect_uri, understood.wanted.state.as_deref(), &[("error", "access_denied")]);
    }
    let (login, password) = (member("login").unwrap_or_default(), member("password").unwrap_or_default());
    let known = understood.account.agent_by_login(&login).map(|agent| format!("{}/{}", understood.account.id, agent.user));
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        ultracart.logins.set(ultracart.limits.load().logins_per_minute);
        // Names that are not ours share one count, so that they cannot fill the memory.
        if let Err(wait) = ultracart.logins.check(known.as_deref().unwrap_or_default(), peer.ip()) {
            let why = format!("There were too many attempts. Try again in {} seconds.", wait.0);
            return wait.say(show(StatusCode::TOO_MANY_REQUESTS, &understood, Some(&why)));
        }
    }
    let Understood { account, app, asked, wanted } = &understood;
    match ultracart.gateway.identity().grant(account, &login, &password, app, asked).await {
        Ok(code) => told(&asked.redirect_uri, wanted.state.as_deref(), &[("code", &code)]),
        Err(Denied::Invalid) => show(StatusCode::UNAUTHORIZED, &understood, Some("The login or the password is wrong.")),
        Err(Denied::Unavailable) => {
            show(StatusCode::SERVICE_UNAVAILABLE, &understood, Some("Nobody can sign in now. Try again in a moment."))
        }
    }
}

/// Reads what a program asks for. Who it is and where it is told must be certain before it is told anything.
fn understand(ultracart: &UltraCart, wanted: Wanted) -> Result<Understood, Box<Response>> {
    let page = |why: &str| Box::new(message(StatusCode::BAD_REQUEST, why));
    let id = wanted.client_id.as_deref().unwrap_or_default();
    let found = ultracart.gateway.identity().directory().oauth_app(id);
    let (account, app) = found.ok_or_else(|| page("This program is not known here."))?;
    let redirect_uri = match (wanted.redirect_uri.as_deref().filter(|uri| !uri.is_empty()), app.redirect_uris.as_slice()) {
        (Some(uri), known) if known.iter().any(|known| known == uri) => uri.to_owned(),
        (None, [only]) => only.clone(),
        _ => return Err(page("This program may not send you to where it wants to.")),
    };
    let refuse = |error: &str, description: &str| {
        let all = [("error", error), ("error_description", description)];
        Box::new(told(&redirect_uri, wanted.state.as_deref(), &all))
    };
    if wanted.response_type.as_deref() != Some("code") {
        return Err(refuse("unsupported_response_type", "response_type must be code"));
    }
    let scopes = Scopes::parse(wanted.scope.as_deref().unwrap_or_default());
    let scopes = scopes.ok_or_else(|| refuse("invalid_scope", "scope must be conversation_read, conversation_write or both"))?;
    let challenge = wanted.code_challenge.clone().filter(|challenge| !challenge.is_empty());
    let is_good = |challenge: &String| challenge.len() == CHALLENGE && wanted.code_challenge_method.as_deref() == Some("S256");
    if challenge.as_ref().is_some_and(|challenge| !is_good(challenge)) {
        return Err(refuse("invalid_request", "code_challenge must be a SHA-256, and code_challenge_method S256"));
    }
    Ok(Understood { account, app, asked: Asked { redirect_uri, challenge, scopes }, wanted })
}

/// Sends the agent back to the program.
fn told(redirect_uri: &str, state: Option<&str>, members: &[(&str, &str)]) -> Response {
    let Ok(mut url) = Url::parse(redirect_uri) else { return message(StatusCode::BAD_REQUEST, "This program has no address.") };
    url.query_pairs_mut().extend_pairs(members).extend_pairs(state.map(|state| ("state", state)));
    let mut response = Redirect::to(url.as_str()).into_response();
    protect(response.headers_mut(), "'none'");
    response
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:24rem;margin:3rem auto;padding:0 1rem}\
    label,input{display:block;width:100%;box-sizing:border-box}input{font:inherit;padding:.5rem;margin-bottom:1rem}\
    button{font:inherit;padding:.5rem 1rem;margin-right:.5rem}[role=alert]{border-left:.25rem solid #b00020;padding-left:.75rem}";

/// What allows the page its own style and no other.
static STYLED: LazyLock<String> = LazyLock::new(|| {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(digest))
});

/// A text as HTML shows it.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, c| {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
        html
    })
}

/// The page, with what went wrong.
fn show(status: StatusCode, understood: &Understood, wrong: Option<&str>) -> Response {
    let Understood { account, app, asked, wanted } = understood;
    let scopes = asked.scopes.to_string();
    let kept = [
        ("client_id", Some(app.client_id.as_str())),
        ("redirect_uri", Some(asked.redirect_uri.as_str())),
        ("response_type", Some("code")),
        ("scope", Some(scopes.as_str())),
        ("state", wanted.state.as_deref()),
        ("code_challenge", asked.challenge.as_deref()),
        ("code_challenge_method", asked.challenge.as_ref().map(|_| "S256")),
    ];
    let kept =
        kept.into_iter().filter_map(|(name, value)| Some(format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value?))));
    let kept: String = kept.collect();
    let may = match (asked.scopes.read, asked.scopes.write) {
        (true, false) => "read conversations",
        (false, true) => "join conversations and answer in them",
        _ => "read conversations, join them and answer in them",
    };
    let wrong = wrong.map_or_else(String::new, |why| format!("<p role=\"alert\">{}</p>", escaped(why)));
    let (name, whose) = (escaped(&app.name), escaped(if account.name.is_empty() { account.id.as_str() } else { &account.name }));
    let text = format!(
        "<h1>Sign in for {name}</h1><p>{name} asks to {may} at {whose} in your name.</p>{wrong}\
        <form method=\"post\">{kept}<label for=\"login\">Login</label>\
        <input id=\"login\" name=\"login\" autocomplete=\"username\" required autofocus>\
        <label for=\"password\">Password</label>\
        <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" required>\
        <button type=\"submit\">Sign in</button><button type=\"submit\" name=\"cancel\" value=\"1\" formnovalidate>Cancel</button></form>"
    );
    // A browser also holds the place to which the form's answer leads to this.
    let origin = Url::parse(&asked.redirect_uri).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    html(status, &format!("Sign in for {name}"), &text, &format!("'self' {origin}"))
}

/// A page that only says something.
fn message(status: StatusCode, why: &str) -> Response {
    html(status, "Sign in", &format!("<h1>Sign in</h1><p role=\"alert\">{}</p>", escaped(why)), "'none'")
}

fn html(status: StatusCode, title: &str, text: &str, forms: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
        <title>{title}</title><style>{STYLE}</style></head><body><main>{text}</main></body></html>"
    );
    let mut response = (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    protect(response.headers_mut(), forms);
    response
}

/// Nothing runs, nothing is loaded, nobody frames it, nobody is told where one comes from, and it is kept nowhere.
fn protect(headers: &mut HeaderMap, forms: &str) {
    let style = &*STYLED;
    let policy = format!("default-src 'none'; style-src {style}; form-action {forms}; base-uri 'none'; frame-ancestors 'none'");
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
    );
    let fixed = [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_becomes_html() {
        assert_eq!(escaped("<b a=\"1\" c='2'>&amp;"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
    }

    #[test]
    fn a_header_says_which_program_it_is() {
        let of = |text: &str| {
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text))).unwrap();
            basic(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        };
        let pair = |id: &str, secret: &str| (id.to_owned(), secret.to_owned());
        assert_eq!(of("app:s%3Acret"), [pair("app", "s%3Acret"), pair("app", "s:cret")]);
        assert_eq!(of("app:a+b/c=&d"), [pair("app", "a+b/c=&d"), pair("app", "a b/c=&d")]);
        assert_eq!(of("nonsense"), []);
    }
}
