//! `tieline trace`: the way of one event, step by step.

use super::ServerArgs;
use super::admin::Admin;
use super::client::Client;
use crate::config::Config;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use std::process::ExitCode;

/// Which event.
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// The conversation
    conversation: String,
    /// The number of the event in its dialog
    sequence: u64,
    /// The dialog [default: the conversation's MAIN dialog]
    #[arg(long)]
    dialog: Option<String>,
    /// Print what the gateway answers, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// `tieline trace CONVERSATION SEQUENCE`
pub(super) async fn trace(config: Config, args: TraceArgs) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config, &args.server)?;
    let number = args.sequence.to_string();
    let path = Client::path(&["admin", "v1", "conversations", &args.conversation, "events", &number, "trace"])?;
    let answer = admin.get_by(&path, &args.dialog.iter().map(|dialog| ("dialog", dialog.clone())).collect::<Vec<_>>()).await?;
    if args.json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    println!(
        "{} {} of {} {}, {}",
        word(&answer["type"]),
        args.sequence,
        word(&answer["from"]["role"]),
        word(&answer["from"]["id"]),
        word(&answer["message"])
    );
    let mut steps: Vec<(Value, String)> = ["received", "decided", "committed"].map(|step| (answer[step].clone(), step.to_owned())).into();
    for push in list(&answer["pushes"]) {
        steps.push((
            push["at"].clone(),
            format!("pushed to {} {}, connection {}", word(&push["as"]), word(&push["id"]), push["connection"]),
        ));
    }
    for hook in list(&answer["webhooks"]) {
        for attempt in list(&hook["attempts"]) {
            let status = attempt["status"].as_u64().map(|status| format!(" {status}")).unwrap_or_default();
            let said = format!(
                "endpoint {} of {}: {}{status} in {} ms",
                hook["endpoint"],
                word(&hook["clientId"]),
                word(&attempt["result"]),
                attempt["tookMs"]
            );
            steps.push((attempt["at"].clone(), said));
        }
    }
    for receipt in list(&answer["receipts"]) {
        let by = &receipt["by"];
        steps.push((
            receipt["at"].clone(),
            format!("{} by {} {}, event {}", word(&receipt["status"]), word(&by["role"]), word(&by["id"]), receipt["sequence"]),
        ));
    }
    let mut timed: Vec<(Timestamp, String)> = steps.into_iter().filter_map(|(at, step)| Some((at.as_str()?.parse().ok()?, step))).collect();
    timed.sort_by_key(|(at, _)| *at);
    let first = timed.first().map(|(at, _)| *at);
    for (at, step) in &timed {
        let after = first.map_or(0, |first| at.as_millisecond() - first.as_millisecond());
        println!("{at}  +{after:>6} ms  {step}");
    }
    println!("pushes are remembered since {}", word(&answer["pushesKnownSince"]));
    Ok(ExitCode::SUCCESS)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
