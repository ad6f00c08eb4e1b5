//! Carries the plan out: one task that owns all there is to know, told of by the links, by timers and by small jobs.

use super::dice::Dice;
use super::ledger::{FEED, Tally};
use super::picture;
use super::plan::{By, Doing, Options, Saying, Step};
use super::talk::{Holder, Progress, Talk};
use crate::cli::client::{Client, Refused, text};
use crate::cli::interrupts::Interrupts;
use crate::cli::link::{Ask, Event, Life, Link, Peer, Place, patiently, properties};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events of the links that wait; when it is full the sockets are not read.
const EVENTS: usize = 1024;

/// Pauses are written for so many messages a second; at a higher rate they are shorter.
const CALM: f64 = 2.0;

/// How far behind its rate the demo may be and catch up.
const BEHIND: Duration = Duration::from_millis(250);

/// How long what was acked may take to be seen, while nothing is down.
const SETTLE: Duration = Duration::from_secs(30);

/// How long the end may take, whatever the gateway does.
const FAREWELL: Duration = Duration::from_secs(60);

const STATUS: Duration = Duration::from_secs(10);

/// How long after a refusal that passes by itself the same is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long a consumer waits for an agent, in milliseconds at a calm pace. With simulated agents only: people take their time.
const PATIENCE: u64 = 120_000;

/// How long an offer of a conversation that is not ours may turn out to be one that is just being opened.
const STRANGE: Duration = Duration::from_secs(2);

/// What does not depend on the seed.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) rate: f64,
    pub(super) time: Option<Duration>,
    pub(super) messages: Option<u64>,
    /// The application is answered positions, not counts of repeats.
    pub(super) tells_positions: bool,
}

/// What an answer is to, by its tag.
#[derive(Debug)]
pub(super) enum Purpose {
    Opened {
        talk: u64,
        publish: u64,
    },
    /// Something that has a number: a step, or beside the steps.
    Published {
        talk: u64,
        link: usize,
        publish: u64,
        what: Published,
    },
    Upload {
        talk: u64,
    },
    /// A step that publishes nothing.
    Done {
        talk: u64,
    },
    /// The end of a conversation, or of a survey: the feed tells of it.
    Closed {
        talk: u64,
    },
    /// An offer was taken or not: the feed tells who has it.
    Rang,
    Farewell,
}

/// What was asked for a consumer, to ask it again with another token.
#[derive(Debug)]
pub(super) struct Spoken {
    kind: &'static str,
    body: Value,
    metadata: Value,
    /// It was refused before.
    pub(super) is_repeat: bool,
}

/// What waits for a consumer's token.
#[derive(Debug)]
pub(super) enum Waiting {
    Opening(u64),
    Asking { talk: u64, spoken: Spoken, purpose: Purpose },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    Step,
    Answer,
    Receipt,
}

/// Tags of what is asked anew at each connection.
pub(super) const UNHEEDED: u64 = 0;
pub(super) const FEED_TAG: u64 = 1;
pub(super) const FOLLOW: u64 = 2;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Thought enough: a message waits for its turn, anything else is done.
    Act {
        talk: u64,
    },
    /// Typed enough.
    Speak {
        talk: u64,
    },
    Offer {
        link: usize,
        ring: String,
        conversation: String,
        is_strange: bool,
    },
    Answer {
        talk: u64,
        question: Question,
    },
    /// A consumer whom nobody answers gives up.
    Patience {
        talk: u64,
    },
    /// All of it should have been seen by now.
    Settle {
        talk: u64,
    },
}

/// A survey's question: what may be answered, nothing if anything.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) dialog: String,
    pub(super) choices: Vec<String>,
}

/// What was done beside the loop.
pub(super) enum Job {
    Consumer { consumer: usize, token: anyhow::Result<String> },
    Uploaded { talk: u64, path: anyhow::Result<String> },
}

pub(super) struct Side {
    pub(super) link: Option<Link>,
    pub(super) connection: u64,
    pub(super) is_up: bool,
    /// The agent's id, and how many dialogs its socket follows.
    pub(super) id: String,
    pub(super) follows: usize,
}

pub(super) struct Demo {
    pub(super) place: Arc<Place>,
    pub(super) plan: Options,
    pub(super) settings: Settings,
    pub(super) sides: Vec<Side>,
    events: mpsc::Receiver<Event>,
    jobs: mpsc::Receiver<Job>,
    report: mpsc::Sender<Job>,
    timers: BinaryHeap<Reverse<(Instant, u64, Timer)>>,
    pub(super) talks: HashMap<u64, Talk>,
    pub(super) ids: HashMap<String, u64>,
    pub(super) purposes: HashMap<u64, Purpose>,
    /// Of these, what is asked for a consumer.
    pub(super) spoken_for: HashMap<u64, Spoken>,
    /// Offers that are dealt with, and of which conversation.
    pub(super) rings: HashMap<String, String>,
    /// Told of conversations whose opening is not answered yet.
    pub(super) unclaimed: Vec<Value>,
    /// Messages that wait for their turn.
    ready: VecDeque<u64>,
    tokens: HashMap<usize, String>,
    /// What waits for a consumer's token.
    fetching: HashMap<usize, Vec<Waiting>>,
    pub(super) cursor: Option<String>,
    /// Names this run in keys, so that another with the same seed is another.
    pub(super) name: String,
    tag: u64,
    publishes: u64,
    next: Instant,
    started: u64,
    spoken: u64,
    /// When a connection last came or went.
    pub(super) moved: Instant,
    pub(super) is_ending: bool,
    pub(super) tally: Tally,
    pub(super) closed: u64,
    pub(super) transferred: u64,
    pub(super) surveyed: u64,
    given_up: u64,
    pub(super) refused: u64,
}

impl Demo {
    pub(super) fn new(place: Arc<Place>, plan: Options, settings: Settings, peers: Vec<Peer>) -> Self {
        let (tell, events) = mpsc::channel(EVENTS);
        // Jobs are few: one for a token, one for a picture. When it is full they wait.
        let (report, jobs) = mpsc::channel(64);
        let open = |(number, peer)| {
            let link = Some(Link::open(place.clone(), peer, number, tell.clone()));
            Side { link, connection: 0, is_up: false, id: String::new(), follows: 0 }
        };
        let sides = peers.into_iter().enumerate().map(open).collect();
        Self {
            place,
            plan,
            settings,
            sides,
            events,
            jobs,
            report,
            timers: BinaryHeap::new(),
            talks: HashMap::new(),
            ids: HashMap::new(),
            purposes: HashMap::new(),
            spoken_for: HashMap::new(),
            rings: HashMap::new(),
            unclaimed: Vec::new(),
            ready: VecDeque::new(),
            tokens: HashMap::new(),
            fetching: HashMap::new(),
            cursor: None,
            name: format!("demo-{}", crate::random::secret()),
            tag: 10,
            publishes: 0,
            next: Instant::now(),
            started: 0,
            spoken: 0,
            moved: Instant::now(),
            is_ending: false,
            tally: Tally::default(),
            closed: 0,
            transferred: 0,
            surveyed: 0,
            given_up: 0,
            refused: 0,
        }
    }

    /// Until the end that was asked for, then until everything is closed and seen. Exit code 1 if something was not.
    pub(super) async fn run(mut self) -> anyhow::Result<ExitCode> {
        let began = Instant::now();
        let mut status = tokio::time::interval_at(began + STATUS, STATUS);
        let mut until = self.settings.time.map(|time| began + time);
        let mut interrupts = Interrupts::listen()?;
        while !(self.is_ending && self.talks.is_empty()) {
            let timer = self.timers.peek().map(|Reverse((when, ..))| *when);
            let may_speak = self.may_speak();
            tokio::select! {
                event = self.events.recv() => self.hear(event.context("the connections are gone")?)?,
                Some(job) = self.jobs.recv() => self.take(job)?,
                () = tokio::time::sleep_until(timer.unwrap_or(began)), if timer.is_some() => self.timer(),
                () = tokio::time::sleep_until(self.next), if may_speak => self.turn(),
                () = tokio::time::sleep_until(until.unwrap_or(began)), if until.is_some() => {
                    if self.is_ending {
                        eprintln!("tieline: {} conversations could not be ended in time", self.talks.len());
                        break;
                    }
                    until = Some(self.end());
                }
                _ = status.tick() => eprintln!("tieline: {}", self.status()),
                () = interrupts.next() => {
                    if self.is_ending {
                        eprintln!("tieline: leaving at once");
                        break;
                    }
                    until = Some(self.end());
                }
            }
            if !self.is_ending && self.has_said_all() && !self.talks.values().any(|talk| talk.is_speaking && !talk.is_closed) {
                until = Some(self.end());
            }
        }
        self.leave().await;
        let left = self.talks.values().map(|talk| talk.book.open()).sum::<u64>();
        self.tally.missed += left;
        eprintln!("tieline: the end after {} s. {}", began.elapsed().as_secs(), self.status());
        eprintln!(
            "tieline: {} messages of {} conversations, {} transferred, {} given up, {} surveys filled, {} requests refused",
            self.spoken, self.started, self.transferred, self.given_up, self.surveyed, self.refused
        );
        Ok(if self.tally.missed == 0 && self.tally.doubled == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn status(&self) -> String {
        let Tally { published, seen, missed, doubled } = self.tally;
        format!(
            "published {published}, seen {seen}, conversations open {}, closed {}, missed {missed}, doubled {doubled}",
            self.talks.values().filter(|talk| !talk.is_over).count(),
            self.closed
        )
    }

    /// Nobody says anything more, and what is open is closed; until when that may take.
    fn end(&mut self) -> Instant {
        self.is_ending = true;
        self.ready.clear();
        let talks: Vec<u64> = self.talks.keys().copied().collect();
        for talk in talks {
            self.finish(talk);
        }
        Instant::now() + FAREWELL
    }

    /// Closes a conversation at the end of the demo, once it is opened.
    pub(super) fn finish(&mut self, number: u64) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        if talk.is_closed || talk.is_over {
            return;
        }
        let Some(id) = talk.id.clone() else {
            if talk.asked == 0 {
                self.talks.remove(&number);
            }
            return;
        };
        talk.is_closed = true;
        self.close(number, &id, FEED, &json!({"field": "Stage", "conversationState": "CLOSE"}));
    }

    async fn leave(&mut self) {
        for link in 1..self.sides.len() {
            if self.sides[link].is_up {
                self.ask(link, "rs.SetAgentState", &json!({"availability": "OFFLINE"}), Purpose::Farewell);
            }
        }
        let answered = async {
            while self.purposes.values().any(|purpose| matches!(purpose, Purpose::Farewell)) {
                let Some(event) = self.events.recv().await else { return };
                if let Err(error) = self.hear(event) {
                    eprintln!("tieline: {error:#}");
                }
            }
        };
        if tokio::time::timeout(AGAIN, answered).await.is_err() {
            eprintln!("tieline: the agents could not be set offline");
        }
        self.events.close();
        for side in &mut self.sides {
            if let Some(link) = side.link.take() {
                link.close().await;
            }
        }
    }

    // Asking.

    pub(super) fn ask_once(&self, link: usize, tag: u64, kind: &str, body: &Value) {
        let side = &self.sides[link];
        if let Some(handle) = &side.link {
            let frame = json!({"kind": "req", "type": kind, "body": body});
            handle.ask(Ask { tag, frame, life: Life::Once(side.connection) });
        }
    }

    fn ask_kept(&mut self, link: usize, frame: Value, key: String, purpose: Purpose) {
        self.tag += 1;
        let tag = self.tag;
        self.purposes.insert(tag, purpose);
        if let Some(handle) = &self.sides[link].link {
            handle.ask(Ask { tag, frame, life: Life::Kept { key } });
        }
    }

    fn ask(&mut self, link: usize, kind: &str, body: &Value, purpose: Purpose) {
        let key = format!("{}-{}", self.name, self.tag + 1);
        self.ask_kept(link, json!({"kind": "req", "type": kind, "body": body}), key, purpose);
    }

    /// A request for a conversation; for the consumer of it on the application's socket.
    fn ask_in(&mut self, number: u64, link: usize, kind: &'static str, body: &Value, metadata: &Value, purpose: Purpose) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        talk.asked += 1;
        let mut headers = Vec::new();
        if link == FEED {
            let token = self.tokens.get(&talk.plan.consumer);
            headers.push(json!({"type": ".ams.headers.ConsumerAuthentication", "jwt": token}));
        }
        let key = format!("{}-{}", self.name, self.tag + 1);
        let frame = json!({"kind": "req", "type": kind, "headers": headers, "body": body, "metadata": metadata});
        self.ask_kept(link, frame, key, purpose);
        if link == FEED {
            self.spoken_for.insert(self.tag, Spoken { kind, body: body.clone(), metadata: metadata.clone(), is_repeat: false });
        }
    }

    pub(super) fn close(&mut self, talk: u64, id: &str, link: usize, field: &Value) {
        let body = json!({"conversationId": id, "conversationField": field});
        self.ask_in(talk, link, "cm.UpdateConversationField", &body, &json!([]), Purpose::Closed { talk });
    }

    /// A name for a publish that everybody sees with it.
    fn mark(&self, publish: u64) -> Value {
        json!([{"type": "ExternalId", "id": format!("{}-p{publish}", self.name)}])
    }

    /// Which of our publishes an event is.
    pub(super) fn publish_of(&self, change: &Value) -> Option<u64> {
        let id = change["metadata"].as_array()?.iter().find(|data| data["type"] == "ExternalId")?["id"].as_str()?;
        id.strip_prefix(&self.name)?.strip_prefix("-p")?.parse().ok()
    }

    pub(super) fn publish(&mut self, talk: u64, link: usize, dialog: &str, event: &Value, what: Published) {
        self.publish_to(talk, link, dialog, event, what, "ALL");
    }

    fn publish_to(&mut self, talk: u64, link: usize, dialog: &str, event: &Value, what: Published, audience: &str) {
        let Some(id) = self.talks.get(&talk).and_then(|talk| talk.id.clone()) else { return };
        self.publishes += 1;
        let publish = self.publishes;
        let body = json!({"conversationId": id, "dialogId": dialog, "messageAudience": audience, "event": event});
        let purpose = Purpose::Published { talk, link, publish, what };
        self.ask_in(talk, link, "ms.PublishEvent", &body, &self.mark(publish), purpose);
    }

    // Time.

    /// A pause of the plan, at this demo's pace.
    pub(super) fn paced(&self, milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds).mul_f64((CALM / self.settings.rate).min(1.0))
    }

    pub(super) fn after(&mut self, time: Duration, timer: Timer) {
        self.tag += 1;
        self.timers.push(Reverse((Instant::now() + time, self.tag, timer)));
    }

    fn timer(&mut self) {
        let Some(Reverse((_, _, timer))) = self.timers.pop() else { return };
        match timer {
            Timer::Act { talk } => self.act(talk),
            Timer::Speak { talk } => self.speak(talk),
            Timer::Offer { link, ring, conversation, is_strange } => self.offered(link, ring, conversation, is_strange),
            Timer::Answer { talk, question } => self.answer(talk, &question),
            Timer::Patience { talk } => self.give_up(talk),
            Timer::Settle { talk } => self.settle(talk),
        }
    }

    // Talking.

    fn may_open(&self) -> bool {
        // Who was refused by everybody waits for another day, and does not keep others away.
        let agents = self.sides.len() - 1;
        let waiting = self.talks.values().filter(|talk| talk.waits() && (agents == 0 || talk.offers < agents)).count();
        let most = if agents > 0 { (self.plan.consumers / 8).max(2) } else { self.plan.consumers };
        self.talks.values().filter(|talk| !talk.is_over).count() < self.plan.consumers && waiting < most
    }

    fn has_said_all(&self) -> bool {
        self.settings.messages.is_some_and(|messages| self.spoken >= messages)
    }

    fn may_speak(&self) -> bool {
        // The feed is followed before anything is said, so that it tells all of it.
        !self.is_ending
            && !self.has_said_all()
            && self.cursor.is_some()
            && self.sides.iter().all(|side| side.connection > 0)
            && (!self.ready.is_empty() || self.may_open())
    }

    /// The next message, of whoever waits longest, or of somebody new.
    fn turn(&mut self) {
        let now = Instant::now();
        let early = now.checked_sub(BEHIND).unwrap_or(now);
        self.next = self.next.max(early) + Duration::from_secs_f64(1.0 / self.settings.rate);
        if let Some(number) = self.ready.pop_front() {
            return self.type_first(number);
        }
        let number = self.started;
        self.started += 1;
        self.spoken += 1;
        let talk = Talk::new(self.plan.conversation(number));
        let consumer = talk.plan.consumer;
        self.talks.insert(number, talk);
        if self.tokens.contains_key(&consumer) { self.open(number) } else { self.fetch(consumer, Waiting::Opening(number)) }
    }

    /// Gets a consumer's token, for what waits for it.
    pub(super) fn fetch(&mut self, consumer: usize, what: Waiting) {
        self.tokens.remove(&consumer);
        let waiting = self.fetching.entry(consumer).or_default();
        waiting.push(what);
        if waiting.len() > 1 {
            return;
        }
        let (place, report) = (self.place.clone(), self.report.clone());
        let name = format!("demo-{}-{}", super::plan::name(consumer).to_lowercase(), consumer + 1);
        tokio::spawn(async move {
            let token = consumer_token(&place, &name).await;
            // The loop is over when nobody listens.
            let _ = report.send(Job::Consumer { consumer, token }).await;
        });
    }

    pub(super) fn open(&mut self, number: u64) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        if self.is_ending {
            self.talks.remove(&number);
            return;
        }
        let Some(Step { doing: Doing::Say { what, .. }, .. }) = talk.step().cloned() else { return };
        talk.asked += 1;
        self.publishes += 1;
        let publish = self.publishes;
        let plan = &talk.plan;
        let headers = json!([
            {"type": ".ams.headers.ConsumerAuthentication", "jwt": self.tokens.get(&plan.consumer)},
            properties(),
        ]);
        let context = json!({"type": "CustomContext", "topic": plan.topic});
        let opening = json!({"brandId": self.place.account, "skillId": plan.queue, "conversationContext": context});
        let frame = json!([
            {"kind": "req", "type": "userprofile.SetUserProfile", "headers": headers, "body": {"firstName": plan.name}},
            {"kind": "req", "type": "cm.ConsumerRequestConversation", "body": opening},
            {"kind": "req", "type": "ms.PublishEvent", "body": {"dialogId": "", "event": what.event(None)}, "metadata": self.mark(publish)},
        ]);
        let key = format!("{}-{}", self.name, self.tag + 1);
        self.ask_kept(FEED, frame, key, Purpose::Opened { talk: number, publish });
    }

    /// Lets a conversation go on, if it can.
    pub(super) fn advance(&mut self, number: u64) {
        if self.is_ending {
            return self.finish(number);
        }
        let Some(talk) = self.talks.get_mut(&number) else { return };
        let Some((step, _)) = talk.begin() else { return };
        // A person is given time to say good-bye.
        let patience = if step.doing == Doing::Close && talk.holder == Holder::Person { 10 } else { 1 };
        self.after(self.paced(step.pause) * patience, Timer::Act { talk: number });
    }

    /// By which link the present step is done; nothing if it cannot be done now any more.
    fn actor(&mut self, number: u64) -> Option<(usize, Step)> {
        let talk = self.talks.get_mut(&number)?;
        let step = talk.step()?.clone();
        let link = match (step.by, talk.holder) {
            _ if talk.is_closed => None,
            (By::Consumer, _) => Some(FEED),
            (By::Agent, Holder::Ours(link)) => Some(link),
            (By::Agent, _) if step.doing == Doing::Close => Some(FEED),
            (By::Agent, _) => None,
        };
        if link.is_none() {
            (talk.progress, talk.is_speaking) = (Progress::Idle, false);
            self.advance(number);
        }
        Some((link?, step))
    }

    fn act(&mut self, number: u64) {
        let Some((link, step)) = self.actor(number) else { return };
        let Some(id) = self.talks.get(&number).and_then(|talk| talk.id.clone()) else { return };
        match step.doing {
            Doing::Say { .. } => self.ready.push_back(number),
            Doing::Note(text) => {
                let event = Saying::Text(text).event(None);
                self.publish_to(number, link, &id, &event, Published::Step, "AGENTS_AND_MANAGERS");
            }
            Doing::Transfer(queue) => self.transfer(number, link, &id, &queue),
            Doing::Close => {
                if let Some(talk) = self.talks.get_mut(&number) {
                    talk.is_closed = true;
                }
                self.close(number, &id, link, &json!({"field": "DialogChange", "dialog": {"dialogId": id, "state": "CLOSE"}}));
            }
        }
    }

    fn transfer(&mut self, number: u64, link: usize, id: &str, queue: &str) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        if talk.queue == queue {
            // A person was quicker.
            (talk.progress, talk.at) = (Progress::Idle, talk.at + 1);
            return self.advance(number);
        }
        talk.progress = Progress::Moving;
        self.transferred += 1;
        self.wait_for_agent(number);
        let leave = json!({"field": "ParticipantsChange", "type": "REMOVE", "role": "ASSIGNED_AGENT"});
        let body = json!({"conversationId": id, "conversationField": [leave, {"field": "Skill", "skill": queue}]});
        self.ask_in(number, link, "cm.UpdateConversationField", &body, &json!([]), Purpose::Done { talk: number });
    }

    fn type_first(&mut self, number: u64) {
        let Some((link, step)) = self.actor(number) else { return };
        let Some(talk) = self.talks.get_mut(&number) else { return };
        talk.is_speaking = true;
        let (Some(id), Doing::Say { typing, .. }) = (&talk.id, &step.doing) else { return };
        let event = json!({"type": "ChatStateEvent", "chatState": "COMPOSING"});
        let body = json!({"conversationId": id, "dialogId": id, "event": event});
        let side = &self.sides[link];
        if let Some(handle) = &side.link {
            let mut frame = json!({"kind": "req", "type": "ms.PublishEvent", "body": body});
            if link == FEED {
                frame["headers"] = json!([{"type": ".ams.headers.ConsumerAuthentication", "jwt": self.tokens.get(&talk.plan.consumer)}]);
            }
            handle.ask(Ask { tag: UNHEEDED, frame, life: Life::Once(side.connection) });
        }
        self.spoken += 1;
        self.after(self.paced(*typing), Timer::Speak { talk: number });
    }

    fn speak(&mut self, number: u64) {
        let Some((link, step)) = self.actor(number) else { return };
        let Some(id) = self.talks.get(&number).and_then(|talk| talk.id.clone()) else { return };
        match &step.doing {
            Doing::Say { what: Saying::Photo { picture, .. }, .. } => {
                let body = json!({"fileSize": picture::png(*picture).len(), "fileType": "PNG"});
                self.ask_in(number, link, "ms.GenerateURLForUploadFile", &body, &json!([]), Purpose::Upload { talk: number });
            }
            Doing::Say { what, .. } => self.publish(number, link, &id, &what.event(None), Published::Step),
            _ => {}
        }
    }

    /// Puts the picture of the present step where the gateway says.
    pub(super) fn upload(&mut self, number: u64, answer: &Value) {
        let Some(Step { doing: Doing::Say { what: Saying::Photo { picture, .. }, .. }, .. }) = self.talks.get(&number).and_then(Talk::step)
        else {
            return;
        };
        let (bytes, place, report) = (picture::png(*picture), self.place.clone(), self.report.clone());
        let path = answer["relativePath"].as_str().unwrap_or_default().to_owned();
        let query =
            ["temp_url_sig", "temp_url_expires"].map(|name| format!("{name}={}", answer["queryParams"][name].as_str().unwrap_or_default()));
        tokio::spawn(async move {
            let signed = format!("{path}?{}", query.join("&"));
            let put = patiently(&place, |client| Ok(client.put(&signed)?.body(bytes.clone()))).await;
            let path = match put {
                // With 409 the URL was used: the answer to the first try was lost, and the file is there.
                Err(error) if status_of(&error) != Some(409) => Err(error),
                _ => Ok(path),
            };
            let _ = report.send(Job::Uploaded { talk: number, path }).await;
        });
    }

    fn take(&mut self, job: Job) -> anyhow::Result<()> {
        match job {
            Job::Consumer { consumer, token } => {
                let token = token.with_context(|| "a consumer's token")?;
                self.tokens.insert(consumer, token);
                for waiting in self.fetching.remove(&consumer).unwrap_or_default() {
                    match waiting {
                        Waiting::Opening(number) => self.open(number),
                        Waiting::Asking { talk, spoken: Spoken { kind, body, metadata, .. }, purpose } => {
                            self.ask_in(talk, FEED, kind, &body, &metadata, purpose);
                            self.spoken_for.get_mut(&self.tag).into_iter().for_each(|spoken| spoken.is_repeat = true);
                            // It waited as something that is not answered, and is now asked as that.
                            self.talks.get_mut(&talk).into_iter().for_each(|talk| talk.asked -= 1);
                        }
                    }
                }
            }
            Job::Uploaded { talk: number, path } => {
                let Some(talk) = self.talks.get(&number) else { return Ok(()) };
                let (Some(id), Some(step)) = (talk.id.clone(), talk.step().cloned()) else { return Ok(()) };
                match (path, &step.doing) {
                    (_, _) if talk.is_closed => {}
                    (Ok(path), Doing::Say { what, .. }) => self.publish(number, FEED, &id, &what.event(Some(&path)), Published::Step),
                    // Its URL is over, perhaps: with another it may go better.
                    (Err(error), _) => {
                        tracing::debug!(%error, "a picture was not taken");
                        self.after(AGAIN, Timer::Speak { talk: number });
                    }
                    (Ok(_), _) => {}
                }
            }
        }
        Ok(())
    }

    /// Tries the present step again in a while.
    pub(super) fn try_later(&mut self, number: u64) {
        self.after(AGAIN, Timer::Speak { talk: number });
    }

    /// From now on the consumer waits for an agent.
    pub(super) fn wait_for_agent(&mut self, number: u64) {
        if self.sides.len() > 1 {
            self.after(self.paced(PATIENCE), Timer::Patience { talk: number });
        }
    }

    fn give_up(&mut self, number: u64) {
        let Some(talk) = self.talks.get_mut(&number).filter(|talk| talk.waits()) else { return };
        let Some(id) = talk.id.clone() else { return };
        talk.is_closed = true;
        self.given_up += 1;
        self.close(number, &id, FEED, &json!({"field": "ConversationStateField", "conversationState": "CLOSE"}));
    }

    // Offers and surveys.

    fn offered(&mut self, link: usize, ring: String, conversation: String, is_strange: bool) {
        let known = self.ids.get(&conversation).copied();
        if known.is_none() && !is_strange {
            return self.after(STRANGE, Timer::Offer { link, ring, conversation, is_strange: true });
        }
        if known.is_some() && is_strange {
            return self.consider(link, ring, conversation);
        }
        // What is not ours is left to others at once.
        let takes = !self.is_ending
            && known.and_then(|number| self.talks.get_mut(&number)).is_some_and(|talk| {
                let offers = talk.plan.offers.len().max(1);
                talk.offers += 1;
                talk.plan.offers.get((talk.offers - 1) % offers).is_some_and(|offer| offer.takes)
            });
        let state = if takes { "ACCEPTED" } else { "REJECTED" };
        self.ask(link, "rs.UpdateRingState", &json!({"ringId": ring, "ringState": state}), Purpose::Rang);
    }

    /// An agent thinks about an offer.
    pub(super) fn consider(&mut self, link: usize, ring: String, conversation: String) {
        let offer = self.ids.get(&conversation).and_then(|number| self.talks.get(number)).map(|talk| {
            let offers = talk.plan.offers.len().max(1);
            talk.plan.offers.get(talk.offers % offers).map_or(0, |offer| offer.pause)
        });
        let time = offer.map_or(Duration::ZERO, |pause| self.paced(pause));
        self.after(time, Timer::Offer { link, ring, conversation, is_strange: false });
    }

    fn answer(&mut self, number: u64, question: &Question) {
        let Some(talk) = self.talks.get_mut(&number).filter(|talk| !talk.is_over) else { return };
        let Some(id) = talk.id.clone() else { return };
        let opinion = &talk.plan.opinion;
        if opinion.skips {
            return self.close(number, &id, FEED, &json!({"field": "Stage", "conversationState": "CLOSE"}));
        }
        let choices: Vec<&str> = question.choices.iter().map(String::as_str).collect();
        let text = match choices.as_slice() {
            [] => opinion.comment.to_owned(),
            ["1", "2", "3", "4", "5"] => opinion.rating.to_string(),
            ["Yes", "No"] => if opinion.is_settled { "Yes" } else { "No" }.to_owned(),
            some => Dice::of(self.plan.seed, number).pick(some).to_string(),
        };
        self.publish(number, FEED, &question.dialog, &Saying::Text(text).event(None), Published::Answer);
    }

    // The end of a conversation.

    /// Forgets a conversation of which all was seen.
    pub(super) fn forget_if_done(&mut self, number: u64) {
        if self.talks.get(&number).is_some_and(Talk::is_done) {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(id) = self.talks.remove(&number).and_then(|talk| talk.id) else { return };
        self.ids.remove(&id);
        self.rings.retain(|_, conversation| *conversation != id);
    }

    /// A conversation is over: what was acked should be seen soon.
    pub(super) fn over(&mut self, number: u64) {
        self.closed += 1;
        self.after(SETTLE, Timer::Settle { talk: number });
    }

    fn settle(&mut self, number: u64) {
        let Some(talk) = self.talks.get(&number) else { return };
        let is_calm = self.moved.elapsed() >= SETTLE && self.sides.iter().all(|side| side.is_up);
        if !is_calm || talk.asked > 0 {
            return self.after(SETTLE, Timer::Settle { talk: number });
        }
        let open = talk.book.open();
        eprintln!("tieline: of conversation {} {open} were not seen", talk.id.as_deref().unwrap_or("?"));
        self.tally.missed += open;
        self.forget(number);
    }

    pub(super) fn fail(&mut self, what: &str, why: &str) {
        self.refused += 1;
        eprintln!("tieline: {what} was refused: {why}");
    }

    /// The feed cannot be followed on.
    pub(super) fn lost(why: &str) -> anyhow::Result<()> {
        bail!("the feed cannot be followed: {why}");
    }
}

/// How often a consumer's token is asked for with a fresh token of the application's, which may end between the two.
const TRIES: u32 = 3;

async fn consumer_token(place: &Place, name: &str) -> anyhow::Result<String> {
    let path = format!("/api/account/{}/consumer?v=1.0", place.account);
    let mut tries = 0;
    loop {
        // Whatever is wrong with the application's own token passes: it had one when the demo began.
        let app = match place.app_token().await {
            Ok(token) => token,
            Err(error) => {
                tracing::debug!(%error, "no token yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let ask = |client: &Client| Ok(client.post(&path)?.header("authorization", &app).json(&json!({"ext_consumer_id": name})));
        tries += 1;
        match patiently(place, ask).await {
            Err(error) if tries < TRIES && status_of(&error) == Some(401) => {}
            answer => return text(&answer?, "token"),
        }
    }
}

fn status_of(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refused>().map(|refused| refused.status.as_u16())
}
