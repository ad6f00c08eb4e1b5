//! `tieline tail`: follows an account's conversations as an agent, one line an event. It reconnects by itself and
//! resumes each conversation behind the last number it has printed.

use super::ServerArgs;
use super::client::{Client, Socket, calm, identity, password, text};
use crate::config::Config;
use anyhow::bail;
use backon::{BackoffBuilder, ExponentialBuilder};
use clap::Args;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// The account
    #[arg(long)]
    account: String,
    /// Who follows: agent:LOGIN
    #[arg(long = "as")]
    who: String,
    /// The agent's password [default: the configuration's]
    #[arg(long, env = "TIELINE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Join each conversation and send a receipt for each message
    #[arg(long)]
    accept: bool,
    /// Print each notification as it comes, one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// How far each dialog was printed.
type Printed = HashMap<String, u64>;

pub(super) async fn tail(config: Config, args: TailArgs) -> anyhow::Result<ExitCode> {
    let login = identity(&args.who, "agent")?;
    let password = password(&config, &args.account, &login, args.password.as_deref())?;
    let client = Client::new(&config, &args.server)?;
    let mut printed = Printed::new();
    let backoff = || {
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(10))
            .with_jitter()
            .without_max_times()
            .build()
    };
    let mut delays = backoff();
    let mut is_first = true;
    loop {
        match connect(&client, &args, &login, &password).await {
            Ok((socket, pid)) => {
                eprintln!("tieline: connected to account {} as {login}", args.account);
                is_first = false;
                delays = backoff();
                let why = follow(socket, &args, &pid, &mut printed).await;
                eprintln!("tieline: {why}; reconnecting");
            }
            // A first failure is a mistake of the command; later ones are the gateway's and pass.
            Err(error) if is_first => return Err(error),
            Err(error) => tracing::debug!(%error, "still away"),
        }
        tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(10))).await;
    }
}

async fn connect(client: &Client, args: &TailArgs, login: &str, password: &str) -> anyhow::Result<(Socket, String)> {
    let account = &args.account;
    let signed = client
        .json(client.post(&format!("/api/account/{account}/login?v=1.3"))?.json(&json!({"username": login, "password": password})))
        .await?;
    let bearer = text(&signed, "bearer")?;
    let pid = text(&signed["config"], "userPid")?;
    let mut socket = client.socket(&format!("/ws_api/account/{account}/messaging/brand?v=3"), &bearer).await?;
    request(&mut socket, "conversations", "cqm.SubscribeExConversations", &json!({"stage": ["OPEN"]})).await?;
    Ok((socket, pid))
}

async fn request(socket: &mut Socket, id: &str, kind: &str, body: &Value) -> anyhow::Result<()> {
    let frame = json!({"kind": "req", "id": id, "type": kind, "body": body});
    Ok(socket.send(Message::text(frame.to_string())).await?)
}

/// Prints until the connection ends; why it did.
async fn follow(mut socket: Socket, args: &TailArgs, pid: &str, printed: &mut Printed) -> String {
    let mut followed = std::collections::HashSet::new();
    loop {
        let message = match socket.next().await {
            None => return "the connection ended".into(),
            Some(Err(error)) => return error.to_string(),
            Some(Ok(message)) => message,
        };
        let text = match message {
            Message::Text(text) => text,
            Message::Close(Some(frame)) => return format!("closed with {}: {}", u16::from(frame.code), frame.reason),
            Message::Close(None) => return "closed".into(),
            _ => continue,
        };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { return format!("this is not what a gateway sends: {text:.200}") };
        if let Err(error) = take(&mut socket, args, pid, &frame, printed, &mut followed).await {
            return error.to_string();
        }
    }
}

async fn take(
    socket: &mut Socket,
    args: &TailArgs,
    pid: &str,
    frame: &Value,
    printed: &mut Printed,
    followed: &mut std::collections::HashSet<String>,
) -> anyhow::Result<()> {
    if frame["kind"] == "resp" {
        if frame["code"].as_u64().is_none_or(|code| code > 399) {
            bail!("request {} was answered: {} {}", frame["reqId"], frame["code"], frame["body"]);
        }
        return Ok(());
    }
    if args.json {
        println!("{frame}");
    }
    let changes = frame["body"]["changes"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    match frame["type"].as_str() {
        Some("cqm.ExConversationChangeNotification") => {
            for change in changes {
                let id = change["result"]["convId"].as_str().unwrap_or_default();
                if followed.insert(id.to_owned()) {
                    if args.accept {
                        join(socket, id).await?;
                    }
                    let from = printed.get(id).map_or(0, |last| last + 1);
                    request(socket, &format!("events {id}"), "ms.SubscribeMessagingEvents", &json!({"dialogId": id, "fromSeq": from}))
                        .await?;
                }
                if !args.json && (change["type"] == "DELETE") {
                    println!("{id} closed by {}", change["result"]["conversationDetails"]["closeReason"].as_str().unwrap_or("?"));
                }
            }
        }
        Some("ms.MessagingEventNotification") => {
            for change in changes {
                show(args, change, printed);
                if args.accept && change["event"]["type"] != "AcceptStatusEvent" && change["originatorId"] != pid {
                    receipt(socket, change).await?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

async fn join(socket: &mut Socket, id: &str) -> anyhow::Result<()> {
    let field = json!({"field": "ParticipantsChange", "type": "ADD", "role": "READER"});
    request(socket, &format!("join {id}"), "cm.UpdateConversationField", &json!({"conversationId": id, "conversationField": [field]})).await
}

async fn receipt(socket: &mut Socket, change: &Value) -> anyhow::Result<()> {
    let Some(sequence) = change["sequence"].as_u64() else { return Ok(()) };
    let event = json!({"type": "AcceptStatusEvent", "status": "ACCEPT", "sequenceList": [sequence]});
    request(socket, &format!("accept {sequence}"), "ms.PublishEvent", &json!({"dialogId": change["dialogId"], "event": event})).await
}

/// One line an event: where, which number, who, what.
fn show(args: &TailArgs, change: &Value, printed: &mut Printed) {
    let dialog = change["dialogId"].as_str().unwrap_or_default();
    if let Some(sequence) = change["sequence"].as_u64() {
        printed.insert(dialog.to_owned(), sequence);
    }
    if args.json {
        return;
    }
    let event = &change["event"];
    let said = match event["type"].as_str() {
        Some("ContentEvent") => event["message"].as_str().map_or_else(|| event["message"].to_string(), str::to_owned),
        Some("RichContentEvent") => format!("(rich) {}", event["content"]),
        Some("AcceptStatusEvent") => format!("({} {})", event["status"].as_str().unwrap_or("?"), event["sequenceList"]),
        Some("ChatStateEvent") => format!("({})", event["chatState"].as_str().unwrap_or("?")),
        _ => event.to_string(),
    };
    let number = change["sequence"].as_u64().map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
    println!("{dialog} {number} {}: {}", change["originatorMetadata"]["role"].as_str().unwrap_or("?"), calm(&said));
}
