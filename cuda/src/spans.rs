//! Times of whole programs, by the device's own clock.

use std::sync::Arc;

use crate::Error;
use crate::device::Context;
use crate::stream::{Graph, Stream};
use crate::timers::Event;

/// Times successive replays.
pub(crate) struct Spans {
    pairs: Vec<(Event, Event)>,
    context: Arc<Context>,
}

impl Spans {
    /// The context is current, here and in every method.
    pub(crate) fn new(context: &Arc<Context>) -> Result<Spans, Error> {
        Ok(Spans { pairs: Vec::new(), context: context.clone() })
    }

    /// Replays a graph between two events.
    pub(crate) fn around(&mut self, stream: &Stream, graph: &Graph) -> Result<(), Error> {
        let (from, to) = (Event::new(&self.context)?, Event::new(&self.context)?);
        stream.stamp(&from)?;
        stream.replay(graph)?;
        stream.stamp(&to)?;
        self.pairs.push((from, to));
        Ok(())
    }

    /// The milliseconds of all replays, which have ended.
    pub(crate) fn finish(self) -> Result<Vec<f64>, Error> {
        self.pairs.iter().map(|(from, to)| from.ms_until(to)).collect()
    }
}
