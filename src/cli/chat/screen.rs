//! What is shown: one line for each thing that was seen, by whom, on the standard output; notes on the connections beside it.

use crate::cli::client::calm;
use serde_json::Value;
use std::collections::HashMap;
use std::io::IsTerminal;

/// One of the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Consumer,
    Agent,
}

#[derive(Debug)]
pub(super) struct Screen {
    /// Both ends are here, so each line says who saw it.
    pub(super) shows_both: bool,
    colours: bool,
    /// What people are called, by their ids.
    pub(super) names: HashMap<String, String>,
}

impl Screen {
    pub(super) fn new(shows_both: bool) -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { shows_both, colours, names: HashMap::new() }
    }

    /// A line that one end saw.
    pub(super) fn say(&self, who: Who, name: &str, line: &str) {
        let colour = match (self.colours, who) {
            (false, _) => None,
            (true, Who::Consumer) => Some("\x1b[36m"),
            (true, Who::Agent) => Some("\x1b[33m"),
        };
        let front = if self.shows_both { format!("{}| ", calm(name)) } else { String::new() };
        let line = calm(line);
        match colour {
            Some(colour) => println!("{colour}{front}{line}\x1b[0m"),
            None => println!("{front}{line}"),
        }
    }

    /// What is about the connections.
    pub(super) fn note(&self, line: &str) {
        eprintln!("tieline: {}", calm(line));
    }

    /// What somebody is called: by name if it is one of the ends here, else by role.
    pub(super) fn called(&self, id: &Value, role: &Value) -> String {
        match id.as_str().and_then(|id| self.names.get(id)) {
            Some(name) => name.clone(),
            None if role == "CONTROLLER" => "gateway".to_owned(),
            None => role.as_str().unwrap_or("somebody").to_lowercase().replace('_', " "),
        }
    }

    /// An event as a line.
    pub(super) fn event(&self, change: &Value) -> String {
        let event = &change["event"];
        let name = self.called(&change["originatorId"], &change["originatorMetadata"]["role"]);
        let number = change["sequence"].as_u64().map(|number| format!("{number} ")).unwrap_or_default();
        let note = if change["messageAudience"] == "AGENTS_AND_MANAGERS" { " (note)" } else { "" };
        let said = match event["type"].as_str() {
            Some("ChatStateEvent") if event["chatState"] == "COMPOSING" => return format!("{name} is typing"),
            Some("ChatStateEvent") => return format!("{name} is {}", event["chatState"].as_str().unwrap_or("?").to_lowercase()),
            Some("ContentEvent") if event["contentType"] == "hosted/file" => {
                let file = &event["message"];
                format!("(file {}) {}", file["relativePath"].as_str().unwrap_or("?"), file["caption"].as_str().unwrap_or_default())
            }
            Some("ContentEvent") => event["message"].as_str().map_or_else(|| event["message"].to_string(), str::to_owned),
            Some("RichContentEvent") => format!("(rich) {}", event["content"]),
            Some("AcceptStatusEvent") => format!("({} {})", event["status"].as_str().unwrap_or("?"), event["sequenceList"]),
            _ => event.to_string(),
        };
        let choices: Vec<&str> =
            event["quickReplies"]["replies"].as_array().into_iter().flatten().filter_map(|reply| reply["title"].as_str()).collect();
        let choices = if choices.is_empty() { String::new() } else { format!(" [{}]", choices.join(", ")) };
        format!("{number}{name}{note}: {said}{choices}")
    }

    pub(super) fn help(&self) {
        if self.shows_both {
            eprintln!("  c: TEXT, a: TEXT   the consumer or the agent says it; a line without is said by whoever spoke last");
        }
        eprintln!("  TEXT               is said in the present conversation; a consumer's first opens one");
        eprintln!("  /close             close it");
        eprintln!("  /who               who takes part, and which conversations there are");
        eprintln!("  the agent: /accept take what rings; /go N another conversation; /note TEXT for agents only;");
        eprintln!("             /transfer QUEUE leave it to whoever serves that queue");
        eprintln!("  Ctrl-C or the end of the input leaves");
    }
}
