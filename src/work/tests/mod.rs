//! The whole search for agents under a seeded crowd of consumers and agents, judged after each step by rules that know
//! nothing of the router; and the proof that those rules catch what they are for.

mod faults;
mod judge;
mod town;

use self::judge::Ends;
use self::town::{Offered, QUEUES, Town};
use crate::domain::{Availability, FieldChange, Millis};
use std::time::Instant;
use tieline_protocol::ids::{ConversationId, UserId};

/// How many conversations go through a town.
const CONVERSATIONS: usize = 2_000;

/// What was done in a town.
#[derive(Debug, Default)]
struct Done {
    opened: usize,
    steps: usize,
    transfers: usize,
    restarts: usize,
    late: usize,
}

/// A town, and those who live there.
struct Simulation {
    town: Town,
    done: Done,
    /// An offer that somebody may still try to answer when it is over.
    remembered: Option<Offered>,
}

impl Simulation {
    async fn new(seed: u64) -> Self {
        // With every second seed, agents who go lose what they have.
        let town = Town::open(seed, seed.is_multiple_of(2)).await;
        let mut this = Self { town, done: Done::default(), remembered: None };
        for user in this.town.agents(false) {
            if this.town.dice.percent(85) {
                this.town.come(user.clone());
                this.town.say(&user, Availability::Online).await;
            }
        }
        this.town.settle().await;
        this
    }

    /// Lets so many conversations go through, and everything else happen.
    async fn run(&mut self, conversations: usize) {
        while self.done.opened < conversations {
            self.step().await;
            if self.town.dice.below(250) == 0 {
                self.restart().await;
            }
            self.town.settle().await;
        }
        self.town.recount().await;
    }

    /// In mid-work: of the last steps the router has not heard, and its successor has what it can read.
    async fn restart(&mut self) {
        for _ in 0..self.town.dice.below(6) {
            self.step().await;
        }
        self.change_state().await;
        self.town.restart(80).await;
        self.done.restarts += 1;
        self.town.settle().await;
        self.town.recount().await;
    }

    /// One thing that somebody does.
    async fn step(&mut self) {
        self.done.steps += 1;
        // Sometimes more comes than goes, sometimes less.
        let is_rush = (self.done.steps / 400).is_multiple_of(2);
        match self.town.dice.below(100) {
            0..=15 => self.open().await,
            16..=20 => self.speak().await,
            21..=39 => self.answer().await,
            40..=46 => self.change_state().await,
            47..=53 => self.come_or_go(),
            54..=60 => self.transfer().await,
            61..=64 => self.pass(),
            65..=68 => self.answer_late().await,
            69..=87 => self.close().await,
            _ if is_rush => self.answer().await,
            _ => self.close().await,
        }
    }

    async fn open(&mut self) {
        let dice = &mut self.town.dice;
        let count = 1 + dice.below(3);
        let conversation = |place| (self.done.opened + place, QUEUES[if dice.percent(3) { 6 } else { dice.below(6) }], dice.percent(75));
        let conversations = (0..count).map(conversation).collect();
        self.town.begin(conversations).await;
        self.done.opened += count;
    }

    async fn speak(&mut self) {
        if self.town.dice.percent(30)
            && let Some((conversation, agent)) = self.town.dice.pick(self.town.assigned())
        {
            return self.town.speak(&conversation, Some(&agent)).await;
        }
        if let Some(conversation) = self.town.dice.pick(self.town.open_ones()) {
            self.town.speak(&conversation, None).await;
        }
    }

    /// Some accept, reject, or ignore offers.
    async fn answer(&mut self) {
        let mut offers = self.town.offers();
        let mut answers = Vec::new();
        for _ in 0..=self.town.dice.below(6) {
            if offers.is_empty() {
                break;
            }
            let offered = offers.swap_remove(self.town.dice.below(offers.len()));
            let mood = self.town.dice.below(100);
            if mood < 85 {
                self.remembered = Some(offered.clone());
                answers.push((offered, mood < 68));
            }
        }
        self.town.answer(answers).await.into_iter().for_each(|answer| answer.unwrap());
    }

    /// An offer that is over cannot be answered.
    async fn answer_late(&mut self) {
        let Some(offered) = self.remembered.take() else { return };
        self.town.answer(vec![(offered, true)]).await.remove(0).unwrap_err();
        self.done.late += 1;
    }

    async fn change_state(&mut self) {
        let offered = self.town.offers().into_iter().map(|offered| offered.agent).collect();
        let among = if self.town.dice.percent(50) { offered } else { self.town.agents(true) };
        let Some(user) = self.town.dice.pick(among) else { return };
        let availability = match self.town.dice.below(100) {
            0..=69 => Availability::Online,
            70..=84 => Availability::Away,
            85..=89 => Availability::Occupied,
            _ => Availability::Offline,
        };
        self.town.say(&user, availability).await;
    }

    fn come_or_go(&mut self) {
        let goes = self.town.dice.percent(45);
        match self.town.dice.pick(self.town.agents(goes)) {
            Some(user) if goes => self.town.go(user),
            Some(user) => self.town.come(user),
            None => {}
        }
    }

    async fn transfer(&mut self) {
        let Some((conversation, from)) = self.town.dice.pick(self.town.assigned()) else { return };
        let elsewhere = FieldChange::SetQueue(QUEUES[self.town.dice.below(7)].into());
        let invited = &self.town.judge.conversations[&conversation].invited;
        let others = self.town.judge.agents.keys().filter(|user| **user != from && invited.as_ref() != Some(user)).cloned().collect();
        let other = self.town.dice.pick(others).unwrap();
        let invite = FieldChange::Suggest { person: self.town.person(&other) };
        match self.town.dice.below(10) {
            0..=2 => self.town.hand_over(&conversation, &from, vec![elsewhere]).await,
            3..=5 => self.town.hand_over(&conversation, &from, vec![invite]).await,
            6..=7 => self.town.update(&conversation, Some(&from), vec![invite]).await,
            8 => self.town.update(&conversation, Some(&from), vec![elsewhere]).await,
            _ => self.town.hand_over(&conversation, &from, Vec::new()).await,
        }
        self.done.transfers += 1;
    }

    fn pass(&mut self) {
        let seconds = 1 + self.town.dice.below(100);
        self.town.pass(1000 * Millis::try_from(seconds).unwrap());
    }

    async fn close(&mut self) {
        if self.town.dice.percent(70)
            && let Some((conversation, agent)) = self.town.dice.pick(self.town.assigned())
        {
            let how = if self.town.dice.percent(50) { FieldChange::Close } else { FieldChange::CloseDialog { dialog: None, cause: None } };
            return self.town.update(&conversation, Some(&agent), vec![how]).await;
        }
        if let Some(conversation) = self.town.dice.pick(self.town.open_ones()) {
            self.town.update(&conversation, None, vec![FieldChange::Close]).await;
        }
    }

    /// Everybody comes and accepts whatever is offered: who then still waits, waits for nobody who has room.
    async fn finish(&mut self) {
        for user in self.town.agents(false) {
            self.town.come(user);
        }
        for user in self.town.agents(true) {
            self.town.say(&user, Availability::Online).await;
        }
        loop {
            self.town.settle().await;
            let offers = self.town.offers();
            if offers.is_empty() {
                // Whatever was refused is forgotten by then.
                self.town.pass(judge::REFUSAL);
                self.town.settle().await;
                if self.town.offers().is_empty() {
                    break;
                }
            }
            let answers = offers.into_iter().map(|offered| (offered, true)).collect();
            self.town.answer(answers).await.into_iter().for_each(|answer| answer.unwrap());
        }
        self.town.recount().await;
        let judge = &self.town.judge;
        assert_eq!((judge.offers().len(), judge.standing()), (0, 0), "every offer has an end");
        for (id, seen) in judge.conversations.iter().filter(|(_, seen)| seen.waits()) {
            let has_room = |agent: &judge::Agent| agent.load < agent.capacity && agent.skills.contains(&seen.queue);
            assert!(!judge.agents.values().any(has_room), "{id} waits, and somebody has room");
        }
    }
}

/// Lets a town live through all of it.
async fn live(seed: u64, conversations: usize) -> Simulation {
    println!("seed {seed}");
    let mut simulation = Simulation::new(seed).await;
    simulation.run(conversations).await;
    simulation.finish().await;
    simulation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_or_waits_needlessly_whatever_agents_do() {
    let began = Instant::now();
    let (one, two) = tokio::join!(live(1, CONVERSATIONS), live(2, CONVERSATIONS / 4));
    let lives = [&one, &two];
    let sum = |count: &dyn Fn(&Simulation) -> usize| lives.iter().map(|life| count(life)).sum::<usize>();
    let ends = |count: &dyn Fn(&Ends) -> usize| sum(&|life| count(&life.town.judge.ends));
    let [accepted, rejected, expired, cancelled] =
        [ends(&|ends| ends.accepted), ends(&|ends| ends.rejected), ends(&|ends| ends.expired), ends(&|ends| ends.cancelled)];
    assert_eq!(accepted + rejected + expired + cancelled, sum(&|life| life.town.judge.rings()), "each offer has one end");
    let (restarts, transfers) = (sum(&|life| life.done.restarts), sum(&|life| life.done.transfers));
    assert!([accepted, rejected, expired, cancelled, restarts, transfers].into_iter().all(|count| count > 5), "all of it happens");
    println!(
        "routing: {} conversations and 2 x {} agents, seeds 1 and 2: {} steps with {transfers} transfers and {restarts} restarts, \
         offers {accepted} accepted, {rejected} rejected, {expired} expired, {cancelled} cancelled, {} answered too late, \
         0 rules broken, {:.0} s",
        sum(&|life| life.town.judge.opened()),
        one.town.judge.agents.len(),
        sum(&|life| life.done.steps),
        sum(&|life| life.done.late),
        began.elapsed().as_secs_f64(),
    );
}

const QUEUE: &str = QUEUES[0];

/// A town with one conversation that is offered to the only agent who is there.
async fn hamlet(is_released: bool) -> (Town, UserId, ConversationId) {
    let mut town = Town::open(3, is_released).await;
    let serves = |user: &UserId| town.judge.agents[user].skills.contains(QUEUE) && town.judge.agents[user].capacity > 1;
    let agent = town.agents(false).into_iter().find(serves).unwrap();
    town.come(agent.clone());
    town.say(&agent, Availability::Online).await;
    town.begin(vec![(0, QUEUE, true)]).await;
    town.settle().await;
    let conversation = town.open_ones().remove(0);
    (town, agent, conversation)
}

impl Town {
    async fn answer_all(&mut self, accepts: bool) {
        let answers = self.offers().into_iter().map(|offered| (offered, accepts)).collect();
        self.answer(answers).await.into_iter().for_each(|answer| answer.unwrap());
        self.settle().await;
    }
}

// Each of these is judged by `settle`.

#[tokio::test]
async fn regression_who_refused_is_asked_again_when_that_is_over() {
    let (mut town, agent, _) = hamlet(false).await;
    town.answer_all(false).await;
    assert_eq!(town.offers().len(), 0);
    town.pass(judge::REFUSAL);
    town.settle().await;
    assert_eq!(town.offers()[0].agent, agent);
}

#[tokio::test]
async fn regression_who_is_invited_is_asked_though_nobody_of_the_queue_is_free() {
    let (mut town, agent, conversation) = hamlet(false).await;
    town.answer_all(true).await;
    town.say(&agent, Availability::Away).await;
    // It waits longer than the one that is handed over.
    town.begin(vec![(1, QUEUE, true)]).await;
    let other = town.agents(false).into_iter().find(|user| !town.judge.agents[user].skills.contains(QUEUE)).unwrap();
    town.come(other.clone());
    town.say(&other, Availability::Online).await;
    town.settle().await;
    let invite = FieldChange::Suggest { person: town.person(&other) };
    town.hand_over(&conversation, &agent, vec![invite]).await;
    town.settle().await;
    assert_eq!(town.offers()[0].agent, other);
}

#[tokio::test]
async fn regression_an_offer_to_who_went_away_before_a_restart_is_taken_back() {
    let (mut town, agent, _) = hamlet(false).await;
    town.say(&agent, Availability::Away).await;
    town.restart(100).await;
    town.settle().await;
    assert_eq!(town.offers().len(), 0);
}

#[tokio::test]
async fn regression_who_does_not_come_back_after_a_restart_loses_its_conversations() {
    let (mut town, _, conversation) = hamlet(true).await;
    town.answer_all(true).await;
    town.restart(0).await;
    town.settle().await;
    assert!(town.judge.conversations[&conversation].waits());
}
