//! The hostile program as a puppet: it opens, creates and removes what a test tells it to, many at a time.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::Scene;
use crate::command::BrokerCommand;
use crate::emulator::{Emulator, Finished};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::wait::{PATIENCE, until};

/// Where orders stand in the talk image, and the end of the image (`tests/hostile/puppet.c`).
const ORDERS: u64 = 8192;
const ORDERS_END: u64 = super::IMAGE as u64;

/// An order that was given, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order(u32);

/// A running puppet. It stands in the emulator's place, in the finished sandbox.
#[derive(Debug)]
pub struct Puppet<'scene> {
    scene: &'scene Scene,
    emulator: Emulator,
    /// How many orders were given, and the bytes that they take.
    given: Cell<(u32, u64)>,
}

impl<'scene> Puppet<'scene> {
    /// Starts it, and waits until it takes orders. `prepare` adds to the command line.
    ///
    /// # Errors
    /// When it does not start; what was said is in the error.
    pub fn start(
        scene: &'scene Scene,
        prepare: impl FnOnce(BrokerCommand<'scene>) -> BrokerCommand<'scene>,
    ) -> Result<Self> {
        let emulator = prepare(scene.command("puppet")).start()?;
        emulator.wait_for_output("the puppet to take orders", |text| text.contains("ready now"))?;
        Ok(Self { scene, emulator, given: Cell::new((0, 0)) })
    }

    /// The same as an ordinary user, if one is given.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_as(
        scene: &'scene Scene,
        user: Option<u32>,
        prepare: impl FnOnce(BrokerCommand<'scene>) -> BrokerCommand<'scene>,
    ) -> Result<Self> {
        Self::start(scene, |command| match user {
            Some(user) => prepare(command).user(user),
            None => prepare(command),
        })
    }

    /// Gives an order (`VERB ARGUMENTS`, see `tests/hostile/puppet.c`) and does not wait for the answer.
    ///
    /// # Errors
    /// When there is no room for it in the talk image.
    pub fn order(&self, order: &str) -> Result<Order> {
        let (number, used) = self.given.get();
        let line = format!("{number} {order}\n");
        let place = ORDERS + used;
        let end = place + line.len() as u64;
        if end >= ORDERS_END {
            return Err(Error::Unexpected("too many orders".into()));
        }
        self.scene.write_at("talk.raw", line.as_bytes(), place)?;
        self.given.set((number + 1, end - ORDERS));
        Ok(Order(number))
    }

    /// The answer to an order, if it has come.
    ///
    /// # Errors
    /// When what the puppet says cannot be read.
    pub fn answer_so_far(&self, order: Order) -> Result<Option<String>> {
        let start = format!("{} ", order.0);
        let text = self.emulator.stdout()?;
        // The last line may be half written.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        Ok(lines.filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).next())
    }

    /// Waits for the answer to an order.
    ///
    /// # Errors
    /// When it does not come.
    pub fn answer(&self, order: Order) -> Result<String> {
        until(PATIENCE, "the answer to an order", || {
            let answer = self.answer_so_far(order)?;
            if answer.is_none() && !self.emulator.process().is_running() {
                return Err(Error::Unexpected("the puppet ended".into()));
            }
            Ok(answer)
        })
        .map_err(|error| self.emulator.explain(error))
    }

    /// Gives an order and waits for the answer.
    ///
    /// # Errors
    /// As [`Self::order`] and [`Self::answer`].
    pub fn ask(&self, order: &str) -> Result<String> {
        self.answer(self.order(order)?)
    }

    /// Has it open a file, and does not wait. The answer will be `ok` or an errno's name; the descriptor stays open.
    ///
    /// # Errors
    /// As [`Self::order`].
    pub fn start_open(&self, name: &str, flags: OFlags, mode: u32) -> Result<Order> {
        self.order(&format!("open {:x} {mode:o} {name}", flags.bits()))
    }

    /// Has it open a file: `ok` or an errno's name.
    ///
    /// # Errors
    /// As [`Self::order`] and [`Self::answer`].
    pub fn open(&self, name: &str, flags: OFlags) -> Result<String> {
        self.answer(self.start_open(name, flags, 0)?)
    }

    /// Has it create a file with these permission bits, as `open(O_RDWR|O_CREAT)` does: `ok` or an errno's name.
    ///
    /// # Errors
    /// As [`Self::order`] and [`Self::answer`].
    pub fn create(&self, name: &str, mode: u32) -> Result<String> {
        self.answer(self.start_open(name, OFlags::RDWR | OFlags::CREATE, mode)?)
    }

    /// Has it remove a name: `ok` or an errno's name.
    ///
    /// # Errors
    /// As [`Self::order`] and [`Self::answer`].
    pub fn unlink(&self, name: &str) -> Result<String> {
        self.ask(&format!("unlink {name}"))
    }

    /// The descriptor that an order left, as `/proc` shows it to the test.
    ///
    /// # Errors
    /// When it left none.
    pub fn descriptor(&self, order: Order) -> Result<PathBuf> {
        let number = self.ask(&format!("descriptor {}", order.0))?;
        match number.parse::<RawFd>() {
            Ok(number) if number >= 0 => Ok(format!("/proc/{}/fd/{number}", self.process().0).into()),
            _ => Err(Error::Unexpected(format!("order {} left no descriptor: {number}", order.0))),
        }
    }

    /// The number of an order that was given, for orders that refer to its descriptor.
    #[must_use]
    pub fn number(&self, order: Order) -> u32 {
        order.0
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.emulator.process()
    }

    /// The start that it belongs to.
    #[must_use]
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Ends it, and gives what was said.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<Finished> {
        self.order("end")?;
        self.emulator.wait()
    }
}
