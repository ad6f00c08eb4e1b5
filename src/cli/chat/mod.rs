//! `tieline chat`: one or both ends of a conversation in one terminal, line by line.
//!
//! A line is dealt with when it is answered and has been seen by each end in this terminal; then the next is read. So a script
//! of lines gives the same transcript as the same lines typed, whatever happens to the connections meanwhile.

mod agent;
mod consumer;
mod screen;
mod seen;

use super::ServerArgs;
use super::client::{Client, identity, password};
use super::link::{Ask, Event, Happened, Life, Link, Peer, Place, refusal};
use crate::config::Config;
use agent::Agent;
use anyhow::{Context, bail};
use clap::Args;
use consumer::Consumer;
use screen::{Screen, Who};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long after it was answered, or after a connection came back, something may take to be seen.
const SOON: Duration = Duration::from_secs(30);

/// Events of the links that wait to be shown; when it is full the sockets are not read.
const EVENTS: usize = 256;

#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    /// The account
    #[arg(long, default_value = "demo")]
    account: String,
    /// Who speaks: consumer:NAME or agent:LOGIN, or one of each [default: consumer:ann and agent:ada]
    #[arg(long = "as", value_name = "WHO")]
    who: Vec<String>,
    /// The application that speaks for the consumer [default: the account's first]
    #[arg(long)]
    client_id: Option<String>,
    /// The agent's password [default: the configuration's]
    #[arg(long, env = "TIELINE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// The consumer's conversation to go on with [default: the first line opens one]
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// The queue of a conversation that is opened
    #[arg(long, value_name = "ID")]
    queue: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Who is meant by `--as`: the consumer's name and the agent's login.
fn ends(who: &[String]) -> anyhow::Result<(Option<String>, Option<String>)> {
    if who.is_empty() {
        return Ok((Some("ann".to_owned()), Some("ada".to_owned())));
    }
    let (mut consumer, mut agent) = (None, None);
    for end in who {
        let (place, kind) = if end.starts_with("agent:") { (&mut agent, "agent") } else { (&mut consumer, "consumer") };
        let name = identity(end, kind).with_context(|| "who speaks is consumer:NAME or agent:LOGIN, or one of each")?;
        if place.replace(name).is_some() {
            bail!("--as names two of the kind {kind}; a conversation has one consumer, and one agent speaks here");
        }
    }
    Ok((consumer, agent))
}

/// A request that is repeated until it is answered, whose key is random.
fn kept(kind: &str, body: &Value) -> (Value, Life) {
    let key = format!("chat-{}", crate::random::secret());
    (json!({"kind": "req", "type": kind, "body": body}), Life::Kept { key })
}

/// What an end asks by itself when it is connected: its answer is looked at by that end, by this number.
const UNASKED: u64 = 0;

/// Asks for something that lasts as long as the connection.
fn ask_once(link: &Link, connection: u64, kind: &str, body: &Value) {
    link.ask(Ask { tag: UNASKED, frame: json!({"kind": "req", "type": kind, "body": body}), life: Life::Once(connection) });
}

fn follow(link: &Link, connection: u64, conversation: &str, dialog: &str, next: u64) {
    let body = json!({"conversationId": conversation, "dialogId": dialog, "fromSeq": next});
    ask_once(link, connection, "ms.SubscribeMessagingEvents", &body);
}

/// Each line that is typed. The thread ends with the input, or with the program.
fn typed() -> mpsc::Receiver<String> {
    // Full when lines are typed faster than they are acked: then the terminal or the pipe waits.
    let (lines, read) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    read
}

pub(super) async fn chat(config: Config, args: ChatArgs) -> anyhow::Result<ExitCode> {
    let (name, login) = ends(&args.who)?;
    if name.is_none() && (args.conversation.is_some() || args.queue.is_some()) {
        bail!("--conversation and --queue are for a consumer's end; an agent goes to a conversation by /accept and /go");
    }
    let login = login
        .map(|login| password(&config, &args.account, &login, args.password.as_deref()).map(|password| (login, password)))
        .transpose()?;
    let client = Client::new(&config, &args.server)?;
    let place = Arc::new(Place { client, config, account: args.account, client_id: args.client_id });
    let screen = Screen::new(name.is_some() && login.is_some());
    let (tell, events) = mpsc::channel(EVENTS);
    let consumer = name.map(|name| {
        let link = Link::open(place.clone(), Peer::Consumer { name: name.clone() }, 0, tell.clone());
        Consumer::new(name, link, place.account.clone(), args.conversation, args.queue)
    });
    let agent = login.map(|(login, password)| {
        let link = Link::open(place.clone(), Peer::Agent { login: login.clone(), password }, 1, tell.clone());
        Agent::new(login, link)
    });
    let speaker = if consumer.is_some() { Who::Consumer } else { Who::Agent };
    let is_typed = std::io::stdin().is_terminal();
    let mut chat = Chat { consumer, agent, screen, events, speaker, tag: UNASKED, moved: Instant::now(), is_typed, failed: false };
    let ended = tokio::select! {
        ended = chat.run(typed()) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    chat.leave().await;
    ended?;
    Ok(if chat.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Chat {
    consumer: Option<Consumer>,
    agent: Option<Agent>,
    screen: Screen,
    events: mpsc::Receiver<Event>,
    /// Who speaks when a line does not say.
    speaker: Who,
    tag: u64,
    /// When a connection last came or went.
    moved: Instant,
    is_typed: bool,
    /// Whether something that was asked was not done.
    failed: bool,
}

impl Chat {
    async fn run(&mut self, mut lines: mpsc::Receiver<String>) -> anyhow::Result<()> {
        while self.consumer.as_ref().is_some_and(|end| !end.is_up()) || self.agent.as_ref().is_some_and(|end| !end.is_up()) {
            self.next().await?;
        }
        if self.is_typed {
            self.screen.note("connected; /help says what can be typed");
        }
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => self.line(&line).await?,
                    None => return Ok(()),
                },
                Some(event) = self.events.recv() => self.take(event)?,
            }
        }
    }

    /// Says good-bye: an agent goes offline, the sockets are closed.
    async fn leave(&mut self) {
        if let Some(agent) = &mut self.agent
            && agent.is_up()
        {
            let offline = kept("rs.SetAgentState", &json!({"availability": "OFFLINE"}));
            // An agent without a socket is soon offered nothing, also where this does not arrive.
            let _ = tokio::time::timeout(Duration::from_secs(2), self.ask(Who::Agent, offline)).await;
        }
        self.events.close();
        if let Some(agent) = self.agent.take() {
            agent.link.close().await;
        }
        if let Some(consumer) = self.consumer.take() {
            consumer.link.close().await;
        }
    }

    async fn next(&mut self) -> anyhow::Result<()> {
        let event = self.events.recv().await.context("the connections are gone")?;
        self.take(event)
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        let who = if event.link == 0 { Who::Consumer } else { Who::Agent };
        match event.what {
            Happened::Failed(error) => return Err(error),
            Happened::Down(why) => {
                self.moved = Instant::now();
                self.screen.note(&format!("{}: {why}; reconnecting", self.name(who)));
            }
            Happened::Up { connection, id } => {
                if connection > 1 {
                    self.screen.note(&format!("{}: connected again", self.name(who)));
                }
                self.moved = Instant::now();
                self.screen.names.insert(id.clone(), self.name(who).to_owned());
                match (who, &mut self.consumer, &mut self.agent) {
                    (Who::Consumer, Some(end), _) => end.up(connection),
                    (Who::Agent, _, Some(end)) => end.up(connection, id),
                    _ => {}
                }
            }
            Happened::Told(frame) => match (who, &mut self.consumer, &mut self.agent) {
                (Who::Consumer, Some(end), _) => end.told(&frame, &self.screen),
                (Who::Agent, _, Some(end)) => end.told(&frame, &self.screen),
                _ => {}
            },
            // Of what was asked for a line the asker takes the answer.
            Happened::Answer { frame, .. } => {
                if let Some((_, why)) = refusal(&frame) {
                    self.failed = true;
                    self.screen.note(&format!("{}: refused: {why}", self.name(who)));
                } else if let (Who::Agent, Some(end)) = (who, &mut self.agent) {
                    end.subscribed(&frame);
                }
            }
        }
        Ok(())
    }

    fn name(&self, who: Who) -> &str {
        match who {
            Who::Consumer => self.consumer.as_ref().map_or("consumer", |end| &end.name),
            Who::Agent => self.agent.as_ref().map_or("agent", |end| &end.login),
        }
    }

    /// Asks, and shows what happens until the answer is there; nothing if it is a refusal, which is shown.
    async fn ask(&mut self, who: Who, (frame, life): (Value, Life)) -> anyhow::Result<Option<Value>> {
        self.tag += 1;
        let own = self.tag;
        let ask = Ask { tag: own, frame, life };
        match (who, &self.consumer, &self.agent) {
            (Who::Consumer, Some(end), _) => end.link.ask(ask),
            (Who::Agent, _, Some(end)) => end.link.ask(ask),
            _ => return Ok(None),
        }
        loop {
            let event = self.events.recv().await.context("the connections are gone")?;
            match event.what {
                Happened::Answer { tag, frame } if tag == own => {
                    let Some((_, why)) = refusal(&frame) else { return Ok(Some(frame["body"].clone())) };
                    self.fail(who, &why);
                    return Ok(None);
                }
                what => self.take(Event { link: event.link, what })?,
            }
        }
    }

    fn fail(&mut self, who: Who, why: &str) {
        self.failed = true;
        self.screen.say(who, self.name(who), &format!("not done: {why}"));
    }

    /// Shows what happens until that is so; whether it came to be so.
    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<bool> {
        self.moved = Instant::now();
        while !is_so(self) {
            tokio::select! {
                event = self.events.recv() => self.take(event.context("the connections are gone")?)?,
                () = tokio::time::sleep_until(self.moved + SOON) => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let mut text = line.trim();
        if self.screen.shows_both {
            for (front, who) in [("a:", Who::Agent), ("c:", Who::Consumer)] {
                if let Some(rest) = text.strip_prefix(front) {
                    (self.speaker, text) = (who, rest.trim());
                    break;
                }
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        let who = self.speaker;
        let Some(command) = text.strip_prefix('/') else { return self.say(who, text, false).await };
        let (word, rest) = command.split_once(' ').map_or((command, ""), |(word, rest)| (word, rest.trim()));
        match (word, who) {
            ("help", _) => self.screen.help(),
            ("who", Who::Consumer) => self.consumer.iter().for_each(|end| end.who(&self.screen)),
            ("who", Who::Agent) => self.agent.iter().for_each(|end| end.who(&self.screen)),
            ("close", _) => self.close(who).await?,
            ("accept", Who::Agent) => self.accept().await?,
            ("go", Who::Agent) => {
                let went = self.agent.as_mut().is_some_and(|end| end.go(rest, &self.screen));
                if !went {
                    self.fail(who, "there is no such conversation; /who lists them");
                }
            }
            ("note", Who::Agent) if !rest.is_empty() => self.say(who, rest, true).await?,
            ("transfer", Who::Agent) if !rest.is_empty() => self.transfer(rest).await?,
            _ => self.fail(who, &format!("/{word} is not understood here; /help says what is")),
        }
        Ok(())
    }

    async fn say(&mut self, who: Who, text: &str, is_note: bool) -> anyhow::Result<()> {
        let is_opening = who == Who::Consumer && self.consumer.as_ref().is_some_and(Consumer::must_open);
        if is_opening && !self.open().await? {
            return Ok(());
        }
        let target = match who {
            Who::Consumer => self.consumer.as_ref().and_then(Consumer::target),
            Who::Agent => self.agent.as_ref().and_then(Agent::target),
        };
        let Some((conversation, dialog)) = target else {
            self.fail(who, "there is no conversation to say it in; /accept takes one");
            return Ok(());
        };
        let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": text});
        let audience = if is_note { "AGENTS_AND_MANAGERS" } else { "ALL" };
        let body = json!({"conversationId": conversation, "dialogId": dialog, "messageAudience": audience, "event": event});
        let Some(answer) = self.ask(who, kept("ms.PublishEvent", &body)).await? else { return Ok(()) };
        let number = answer["sequence"].as_u64().unwrap_or_default();
        let is_seen = self
            .until(|chat| {
                chat.agent.as_ref().is_none_or(|end| end.has_seen(&dialog, number))
                    && chat.consumer.as_ref().is_none_or(|end| is_note || end.has_seen(&dialog, number))
            })
            .await?;
        if !is_seen {
            self.fail(who, &format!("it is stored as number {number}, and was not seen by everybody"));
        }
        Ok(())
    }

    /// Opens a conversation; whether there is one now.
    async fn open(&mut self) -> anyhow::Result<bool> {
        let Some(end) = &self.consumer else { return Ok(false) };
        let (profile, opening) = end.opening();
        if self.ask(Who::Consumer, kept("userprofile.SetUserProfile", &profile)).await?.is_none() {
            return Ok(false);
        }
        let Some(answer) = self.ask(Who::Consumer, kept("cm.ConsumerRequestConversation", &opening)).await? else { return Ok(false) };
        let id = answer["conversationId"].as_str().with_context(|| format!("the answer names no conversation: {answer}"))?;
        if let Some(end) = &mut self.consumer {
            self.screen.say(Who::Consumer, &end.name, &format!("conversation {id}"));
            end.opened(id);
        }
        self.until(|chat| chat.consumer.as_ref().is_none_or(Consumer::is_shown)).await?;
        Ok(true)
    }

    async fn accept(&mut self) -> anyhow::Result<()> {
        // A script cannot know when it rings.
        if !self.is_typed {
            self.until(|chat| chat.agent.as_ref().is_none_or(Agent::rings)).await?;
        }
        let Some((ring, conversation)) = self.agent.as_ref().and_then(Agent::first_ring) else {
            self.fail(Who::Agent, "nothing rings");
            return Ok(());
        };
        let body = json!({"ringId": ring, "ringState": "ACCEPTED"});
        if self.ask(Who::Agent, kept("rs.UpdateRingState", &body)).await?.is_none() {
            return Ok(());
        }
        if let Some(end) = &mut self.agent {
            end.accepted(&conversation);
        }
        // What was said before is shown before the next line is dealt with, as far as this terminal knows of it.
        let said = self.consumer.as_ref().map_or(0, |end| end.next_of(&conversation));
        let is_there = |agent: &Agent, id: &str| agent.is_in(id) && (said == 0 || agent.has_seen(id, said - 1));
        self.seen_by_both(&conversation, is_there, |consumer, agent| consumer.is_with(agent)).await
    }

    /// Waits until both ends have seen what became of a conversation.
    async fn seen_by_both(
        &mut self,
        conversation: &str,
        agent: impl Fn(&Agent, &str) -> bool,
        consumer: impl Fn(&Consumer, &str) -> bool,
    ) -> anyhow::Result<()> {
        let is_seen = self
            .until(|chat| {
                let id = chat.agent.as_ref().map_or("", |end| &end.id);
                chat.agent.as_ref().is_none_or(|end| !end.knows(conversation) || agent(end, conversation))
                    && chat.consumer.as_ref().is_none_or(|end| !end.knows(conversation) || consumer(end, id))
            })
            .await?;
        if !is_seen {
            self.fail(self.speaker, "it was done, and not seen by everybody");
        }
        Ok(())
    }

    async fn transfer(&mut self, queue: &str) -> anyhow::Result<()> {
        let Some((conversation, _)) = self.agent.as_ref().and_then(Agent::target) else {
            self.fail(Who::Agent, "there is no conversation to transfer");
            return Ok(());
        };
        let leave = json!({"field": "ParticipantsChange", "type": "REMOVE", "role": "ASSIGNED_AGENT"});
        let fields = json!([leave, {"field": "Skill", "skill": queue}]);
        let body = json!({"conversationId": conversation, "conversationField": fields});
        if self.ask(Who::Agent, kept("cm.UpdateConversationField", &body)).await?.is_none() {
            return Ok(());
        }
        self.seen_by_both(&conversation, |agent, id| !agent.is_in(id), |consumer, agent| !consumer.is_with(agent)).await
    }

    async fn close(&mut self, who: Who) -> anyhow::Result<()> {
        let target = match who {
            Who::Consumer => self.consumer.as_ref().and_then(Consumer::target),
            Who::Agent => self.agent.as_ref().and_then(Agent::target),
        };
        let Some((conversation, dialog)) = target else {
            self.fail(who, "there is no open conversation");
            return Ok(());
        };
        // The dialog, not the conversation: a survey may follow.
        let field = json!({"field": "DialogChange", "dialog": {"dialogId": dialog, "state": "CLOSE"}});
        let body = json!({"conversationId": conversation, "conversationField": field});
        if self.ask(who, kept("cm.UpdateConversationField", &body)).await?.is_none() {
            return Ok(());
        }
        self.seen_by_both(&conversation, |agent, id| !agent.is_in(id), |consumer, _| consumer.is_closed(&dialog)).await
    }
}
