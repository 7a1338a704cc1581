//! What is wrong with a file, where in it, and what to do: rendered with the lines at fault underlined.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use crate::secrets;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The job cannot run.
    Error,
    /// It can.
    Warning,
}

/// One thing to say about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The places, in bytes; the first is where it is wrong.
    pub labels: Vec<(Range<usize>, Option<String>)>,
}

impl Diagnostic {
    pub(crate) fn error(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { severity: Severity::Error, message: message.into(), help: None, labels: vec![(span, None)] }
    }

    pub(crate) fn warning(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message, span) }
    }

    pub(crate) fn without_place(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), help: None, labels: Vec::new() }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn label(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span, Some(text.into())));
        self
    }

    fn at(&self) -> usize {
        self.labels.first().map_or(0, |(span, _)| span.start)
    }
}

/// Everything there is to say about a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    text: Arc<str>,
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(file: &str, text: &Arc<str>, mut items: Vec<Diagnostic>) -> Self {
        items.sort_by_key(Diagnostic::at);
        let mut distinct: Vec<Diagnostic> = Vec::new();
        for item in items {
            if !distinct.contains(&item) {
                distinct.push(item);
            }
        }
        Self { file: file.to_owned(), text: Arc::clone(text), items: distinct }
    }

    /// What there is to say.
    #[must_use]
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Line and column (both from 1, columns in characters) where a diagnostic points; `None` where it points nowhere.
    #[must_use]
    pub fn line_column(&self, item: &Diagnostic) -> Option<(usize, usize)> {
        let (span, _) = item.labels.first()?;
        let before = self.text.get(..span.start.min(self.text.len()))?;
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }

    /// For a terminal: each with its lines and an underline, a count at the end.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110);
        let shown: Arc<str> = secrets::covered(&self.text).into();
        let mut out = String::new();
        for item in &self.items {
            let report = Shown { item, source: NamedSource::new(&self.file, Arc::clone(&shown)).with_language("yaml") };
            // Writing to a String cannot fail; a source that cannot be read leaves the message alone.
            if handler.render_report(&mut out, &report).is_err() {
                out.push_str(&item.message);
            }
            out.push('\n');
        }
        let errors = self.items.iter().filter(|i| i.severity == Severity::Error).count();
        match errors {
            0 => {}
            1 => out.push_str(&format!("1 error in {}\n", self.file)),
            n => out.push_str(&format!("{n} errors in {}\n", self.file)),
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {}

#[derive(Debug)]
struct Shown<'a> {
    item: &'a Diagnostic,
    source: NamedSource<Arc<str>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.item.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.item.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.item.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |(span, text): &(Range<usize>, Option<String>)| LabeledSpan::new(text.clone(), span.start, span.len());
        (!self.item.labels.is_empty()).then(|| Box::new(self.item.labels.iter().map(label)) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}
