//! `tieline send`: a consumer's text over the Connector API, as a connector would send it.

use super::ServerArgs;
use super::client::{Client, identity, text};
use crate::config::Config;
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The account
    #[arg(long)]
    account: String,
    /// Who sends: consumer:NAME, where NAME is what the application calls it
    #[arg(long = "as")]
    who: String,
    /// The application that speaks for the consumer [default: the account's first]
    #[arg(long)]
    client_id: Option<String>,
    /// Open a conversation and print its id
    #[arg(long, conflicts_with = "conversation", required_unless_present = "conversation")]
    open: bool,
    /// The conversation to send to
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Makes a repeat of this very command harmless
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The text
    text: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn send(config: Config, args: SendArgs) -> anyhow::Result<ExitCode> {
    let name = identity(&args.who, "consumer")?;
    let client = Client::new(&config, &args.server)?;
    let account = &args.account;
    let app = client.app_token(&config, account, args.client_id.as_deref()).await?;
    let named = client
        .post(&format!("/api/account/{account}/consumer?v=1.0"))?
        .header("authorization", &app)
        .json(&json!({"ext_consumer_id": name}));
    let consumer = text(&client.json(named).await?, "token")?;
    let publish = |dialog: &str| {
        json!({"kind": "req", "id": "3", "type": "ms.PublishEvent",
               "body": {"dialogId": dialog, "event": {"type": "ContentEvent", "contentType": "text/plain", "message": args.text}}})
    };
    let (path, body) = match &args.conversation {
        Some(id) => ("conversation/send", publish(id)),
        None => (
            "conversation",
            json!([
                {"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {"firstName": name}},
                {"kind": "req", "id": "2", "type": "cm.ConsumerRequestConversation", "body": {"brandId": account}},
                publish(""),
            ]),
        ),
    };
    let mut request = client
        .post(&format!("/api/account/{account}/messaging/consumer/{path}?v=3"))?
        .header("authorization", &app)
        .header("x-lp-on-behalf", &consumer)
        .json(&body);
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let answer = client.json(request).await?;
    if args.open {
        println!("{}", answer[1]["body"]["conversationId"].as_str().context("the answer names no conversation")?);
    } else {
        let Value::Number(sequence) = &answer["body"]["sequence"] else { bail!("the answer has no sequence: {answer}") };
        println!("{sequence}");
    }
    Ok(ExitCode::SUCCESS)
}
