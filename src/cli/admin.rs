//! What the commands share that use the admin's calls: the key, and tables of what is answered.

use super::ServerArgs;
use super::client::Client;
use crate::config::Config;
use anyhow::Context;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The admin's side of a gateway.
pub(super) struct Admin {
    client: Client,
    key: SecretString,
}

impl Admin {
    /// For the key in the configuration, at the address of its own if the admin's calls have one.
    pub(super) fn new(config: &Config, server: &ServerArgs) -> anyhow::Result<Self> {
        let key = config.admin_key().context("set internal.admin_key, here as on the gateway: without it /admin is off")?;
        Ok(Self { client: Client::internal(config, server)?, key })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(self.client.get(path)?).await
    }

    /// With parameters.
    pub(super) async fn get_by(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        let mut request = self.client.get(path)?.build()?;
        request.url_mut().query_pairs_mut().extend_pairs(parameters);
        self.ask(self.client.again(request)).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(self.client.delete(path)?).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(self.client.post(path)?.json(body)).await
    }

    async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        self.client.json(request.bearer_auth(self.key.expose_secret())).await
    }
}

/// A value as people read it; none is a dash.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints rows under a heading, each column as wide as it must be; or, if there are none, that.
pub(super) fn table(columns: &[&str], rows: &[Value], none: &str) {
    if rows.is_empty() {
        println!("{none}");
        return;
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|row| columns.iter().map(|column| cell(&row[*column])).collect()).collect();
    let width = |place: usize| cells.iter().map(|row| row[place].chars().count()).chain([columns[place].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let head: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    for row in std::iter::once(&head).chain(&cells) {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", line.join("  ").trim_end());
    }
}
