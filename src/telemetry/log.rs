//! Logs: one event a line, JSON or text, on standard error.

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, Telemetry};

/// Lines that wait for a slow reader of standard error before lines are dropped: a request never
/// waits for the log.
const BUFFERED_LINES: usize = 16 * 1024;

/// A process's log.
#[derive(Debug)]
pub struct Log(reload::Handle<Targets, Registry>);

impl Log {
    /// Lets through what `configured` says from now on.
    pub fn filter(&self, configured: &Targets) {
        // It fails only when nothing logs any more.
        let _ = self.0.reload(without_foreign_detail(configured));
    }
}

/// Starts logging for this process, as configured. Lines are written until the guard is dropped.
///
/// # Errors
/// When something in this process logs already.
pub fn start(
    config: &Telemetry,
) -> Result<(Log, WorkerGuard), Box<dyn std::error::Error + Send + Sync>> {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true)
        .finish(io::stderr());
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let (filter, handle) = reload::Layer::new(without_foreign_detail(&config.log_filter));
    tracing_subscriber::registry()
        .with(layer(json, writer).with_filter(filter))
        .try_init()?;
    Ok((Log(handle), guard))
}

fn layer<W>(json: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let writer = BoxMakeWriter::new(writer);
    if json {
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
        layer
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer)
            .boxed()
    } else {
        let ansi = io::stderr().is_terminal();
        tracing_subscriber::fmt::layer()
            .with_ansi(ansi)
            .with_writer(writer)
            .boxed()
    }
}

/// The configured filter, for our own events only. The libraries beneath log targets and headers
/// at their finer levels, the key among them: from them only warnings pass, whatever is asked for.
fn without_foreign_detail(configured: &Targets) -> Targets {
    let own = |target: &str| target.starts_with("flameup_gateway");
    let default = configured.default_level().unwrap_or(LevelFilter::OFF);
    configured.iter().filter(|(target, _)| own(target)).fold(
        Targets::new()
            .with_default(default.min(LevelFilter::from_level(Level::WARN)))
            .with_target("flameup_gateway", default),
        |filter, (target, level)| filter.with_target(target, level),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_detail_never_passes() {
        let configured: Targets = "trace,hyper=trace,h2=debug,flameup_gateway::access=off"
            .parse()
            .expect("a filter");
        let filter = without_foreign_detail(&configured);
        assert!(filter.would_enable("flameup_gateway::gateway", &Level::TRACE));
        assert!(!filter.would_enable("flameup_gateway::access", &Level::INFO));
        assert!(filter.would_enable("hyper::proto", &Level::WARN));
        assert!(!filter.would_enable("hyper::proto", &Level::INFO));
        assert!(!filter.would_enable("h2::frame", &Level::DEBUG));
    }
}
