//! Charts as SVG, to stand in a page: bars, and lines over an axis.
//!
//! Colours and fonts are the page's (classes `series-0`, `series-1`, …), so that both colour schemes
//! have theirs. Every chart has a title that is read aloud; the figures are in a table beside it.

use super::figure;
use crate::statistics::Spread;
use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
/// As many letters of a heading fit into a line, in the larger font that a narrow page has.
const LINE_LETTERS: usize = 60;
const LINE_HEIGHT: f64 = 20.0;
/// What the page has colours for; more series begin again.
const COLOURS: usize = 8;

/// Bars that belong together.
pub(super) struct Group {
    pub(super) name: String,
    /// The name of each bar, and its figures.
    pub(super) bars: Vec<(String, Spread)>,
}

const BAR_HEIGHT: f64 = 18.0;
const BAR_GAP: f64 = 5.0;
const GROUP_HEAD: f64 = 24.0;
const NAME_WIDTH: f64 = 190.0;
const VALUE_WIDTH: f64 = 70.0;

/// Horizontal bars, each to the scale of its group: groups may differ by orders of magnitude.
pub(super) fn bars(title: &str, groups: &[Group]) -> String {
    let mut body = String::new();
    let mut top = 4.0;
    for group in groups {
        top += heading(&mut body, "group", 0.0, top + 14.0, &group.name);
        top += GROUP_HEAD;
        let values = group.bars.iter().map(|(_, spread)| spread.greatest);
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - NAME_WIDTH - VALUE_WIDTH) / most;
        for (index, (name, spread)) in group.bars.iter().enumerate() {
            bar(&mut body, top, index % COLOURS, name, *spread, scale);
            top += BAR_HEIGHT + BAR_GAP;
        }
        top += 8.0;
    }
    frame(title, top, &body)
}

/// A text that begins there, in as many lines as it takes; how much higher than one line it is.
fn heading(body: &mut String, class: &str, left: f64, top: f64, text: &str) -> f64 {
    let lines = lines_of(text);
    for (index, line) in lines.iter().enumerate() {
        _ = write!(
            body,
            r#"<text class="{class}" x="{left}" y="{:.1}">{}</text>"#,
            top + index as f64 * LINE_HEIGHT,
            escape(line)
        );
    }
    lines.len().saturating_sub(1) as f64 * LINE_HEIGHT
}

/// Broken between words; a word that is longer than a line has one to itself.
fn lines_of(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + letters <= LINE_LETTERS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn bar(body: &mut String, top: f64, colour: usize, name: &str, spread: Spread, scale: f64) {
    let Spread {
        median,
        least,
        greatest,
    } = spread;
    let (middle, left) = (top + BAR_HEIGHT / 2.0, NAME_WIDTH);
    _ = write!(
        body,
        r#"<text class="name" x="{:.1}" y="{:.1}">{}</text><rect class="series-{colour}" x="{left}" y="{top:.1}" width="{:.1}" height="{BAR_HEIGHT}"/>"#,
        left - 8.0,
        middle + 4.5,
        escape(name),
        (median * scale).max(1.0),
    );
    if least < greatest {
        let (from, to) = (left + least * scale, left + greatest * scale);
        _ = write!(
            body,
            r#"<path class="range" d="M{from:.1} {middle:.1}H{to:.1}M{from:.1} {:.1}v8M{to:.1} {:.1}v8"/>"#,
            middle - 4.0,
            middle - 4.0,
        );
    }
    _ = write!(
        body,
        r#"<text class="value" x="{:.1}" y="{:.1}">{}</text>"#,
        left + greatest * scale + 6.0,
        middle + 4.5,
        figure(median)
    );
}

/// How numbers become places.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their size; for numbers above zero.
    Logarithmic,
}

/// Lines over an axis.
pub(super) struct Lines {
    pub(super) title: String,
    /// What is written along the axes.
    pub(super) x_name: String,
    pub(super) y_name: String,
    pub(super) x_scale: Scale,
    pub(super) y_scale: Scale,
    /// Places on the axis that are marked, and how.
    pub(super) x_marks: Vec<(f64, String)>,
    pub(super) series: Vec<(String, Vec<(f64, f64)>)>,
}

const HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 42.0;
const TOP: f64 = 26.0;
const LEGEND_LINE: f64 = 20.0;
/// Marks on the vertical axis, about.
const MARKS: f64 = 5.0;

/// `None` without two places to draw a line between.
pub(super) fn lines(chart: &Lines) -> Option<String> {
    let points = || chart.series.iter().flat_map(|(_, points)| points);
    let is_drawn = chart.series.iter().any(|(_, points)| points.len() > 1);
    if !is_drawn || points().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let x = Axis::over(chart.x_scale, points().map(|point| point.0), false);
    let y = Axis::over(chart.y_scale, points().map(|point| point.1), true);
    let place_x = |value: f64| LEFT + x.part(value) * (WIDTH - LEFT - RIGHT);
    let place_y = |value: f64| HEIGHT - BOTTOM - y.part(value) * (HEIGHT - BOTTOM - TOP);
    let mut body = String::new();
    for mark in y.marks() {
        let at = place_y(mark);
        _ = write!(
            body,
            r#"<path class="grid" d="M{LEFT} {at:.1}H{:.1}"/><text class="mark-y" x="{:.1}" y="{:.1}">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(mark)
        );
    }
    for (mark, text) in &chart.x_marks {
        let (at, under) = (place_x(*mark), HEIGHT - BOTTOM + 16.0);
        _ = write!(
            body,
            r#"<text class="mark-x" x="{at:.1}" y="{under:.1}">{}</text>"#,
            escape(text)
        );
    }
    _ = write!(
        body,
        r#"<text class="axis end" x="{:.1}" y="{:.1}">{}</text>"#,
        WIDTH - RIGHT,
        HEIGHT - 8.0,
        escape(&chart.x_name)
    );
    for (index, (name, points)) in chart.series.iter().enumerate() {
        let colour = index % COLOURS;
        let places: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", place_x(*x), place_y(*y)))
            .collect();
        _ = write!(
            body,
            r#"<polyline class="line series-{colour}" points="{}"/>"#,
            places.join(" ")
        );
        let top = HEIGHT + index as f64 * LEGEND_LINE;
        _ = write!(
            body,
            r#"<rect class="series-{colour}" x="{LEFT}" y="{top:.1}" width="14" height="10"/><text class="legend" x="{:.1}" y="{:.1}">{}</text>"#,
            LEFT + 20.0,
            top + 10.0,
            escape(name)
        );
    }
    let mut whole = String::new();
    let more = heading(&mut whole, "axis", LEFT, 16.0, &chart.y_name);
    _ = write!(whole, r#"<g transform="translate(0 {more})">{body}</g>"#);
    let height = more + HEIGHT + chart.series.len() as f64 * LEGEND_LINE;
    Some(frame(&chart.title, height, &whole))
}

/// From where to where an axis goes.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over all values; one that begins at zero has room above them.
    fn over(scale: Scale, values: impl Iterator<Item = f64>, has_room: bool) -> Axis {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        let (from, to) = match (scale, has_room) {
            (Scale::Linear, true) => (0.0, most * 1.08),
            (Scale::Linear, false) => (least, most),
            (Scale::Logarithmic, true) => {
                let least = least.max(f64::MIN_POSITIVE);
                (
                    10f64.powf(least.log10().floor()),
                    10f64.powf(most.max(least).log10().ceil()),
                )
            }
            (Scale::Logarithmic, false) => (least.max(f64::MIN_POSITIVE), most),
        };
        let to = if to > from { to } else { from + 1.0 };
        Axis { scale, from, to }
    }

    /// Where a value is, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => {
                (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
            }
        };
        part.clamp(0.0, 1.0)
    }

    fn marks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Logarithmic => {
                let first = self.from.log10().round() as i32;
                let last = self.to.log10().round() as i32;
                (first..=last).map(|power| 10f64.powi(power)).collect()
            }
            Scale::Linear => {
                let rough = (self.to - self.from) / MARKS;
                let unit = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * unit);
                let step = step
                    .into_iter()
                    .find(|step| *step >= rough)
                    .unwrap_or(rough);
                let count = ((self.to - self.from) / step).floor() as usize;
                (0..=count)
                    .map(|index| self.from + index as f64 * step)
                    .collect()
            }
        }
    }
}

fn frame(title: &str, height: f64, body: &str) -> String {
    let title = escape(title);
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}"><title>{title}</title>{body}</svg>"#
    )
}

/// A number for an axis: 1200 is 1.2k.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// As text in a page or the value of an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)], scale: Scale) -> Lines {
        Lines {
            title: "<t>".to_owned(),
            x_name: "x".to_owned(),
            y_name: "y".to_owned(),
            x_scale: scale,
            y_scale: Scale::Linear,
            x_marks: Vec::new(),
            series: vec![("s".to_owned(), points.to_vec())],
        }
    }

    #[test]
    fn a_line_goes_from_the_first_place_to_the_last() {
        let svg = lines(&chart(
            &[(1.0, 0.0), (10.0, 50.0), (100.0, 100.0)],
            Scale::Logarithmic,
        ));
        let svg = svg.unwrap();
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        assert!(
            svg.contains(&format!(
                r#"points="{LEFT:.1},{:.1} {middle:.1},"#,
                HEIGHT - BOTTOM
            )),
            "{svg}"
        );
        assert!(svg.contains("<title>&lt;t&gt;</title>"));
    }

    #[test]
    fn a_heading_that_is_too_long_for_a_line_takes_several() {
        assert_eq!(lines_of(""), Vec::<String>::new());
        assert_eq!(lines_of("a b"), ["a b"]);
        let (thirty, sixty) = ("x".repeat(30), "y".repeat(60));
        let text = format!("{thirty} {} z {sixty}", &thirty[1..]);
        let first = format!("{thirty} {}", &thirty[1..]);
        assert_eq!(lines_of(&text), [first.as_str(), "z", &sixty]);
        // What follows makes room for it.
        let long = Lines {
            y_name: format!("{sixty} {sixty}"),
            ..chart(&[(1.0, 1.0), (2.0, 2.0)], Scale::Linear)
        };
        let svg = lines(&long).unwrap();
        let height = HEIGHT + LEGEND_LINE + LINE_HEIGHT;
        assert!(
            svg.starts_with(&format!(r#"<svg viewBox="0 0 640 {height:.0}""#)),
            "{svg}"
        );
        assert!(svg.contains(r#"<g transform="translate(0 20)">"#), "{svg}");
        let group = |name: &str| Group {
            name: name.to_owned(),
            bars: vec![("a".to_owned(), Spread::of(&[1.0]).unwrap())],
        };
        let top = |svg: &str| -> f64 {
            let (_, rest) = svg
                .split_once(r#"<rect class="series-0" x="190" y=""#)
                .unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let (one, two) = (bars("t", &[group("g")]), bars("t", &[group(&long.y_name)]));
        assert_eq!(top(&two) - top(&one), LINE_HEIGHT);
    }

    #[test]
    fn a_single_place_or_no_number_is_no_line() {
        assert!(lines(&chart(&[(1.0, 1.0)], Scale::Linear)).is_none());
        assert!(lines(&chart(&[], Scale::Linear)).is_none());
        assert!(lines(&chart(&[(1.0, 1.0), (2.0, f64::NAN)], Scale::Linear)).is_none());
    }

    #[test]
    fn marks_are_round_numbers() {
        let axis = Axis::over(Scale::Linear, [0.0, 9300.0].into_iter(), true);
        assert_eq!(axis.marks(), [0.0, 5000.0, 10_000.0]);
        let axis = Axis::over(Scale::Logarithmic, [70.0, 2100.0].into_iter(), true);
        assert_eq!(axis.marks(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(
            [short(1200.0), short(5.0), short(0.25), short(2e9)],
            ["1.2k", "5", "0.25", "2G"]
        );
    }

    #[test]
    fn the_longest_bar_leaves_room_for_its_figure() {
        let spread = |value| Spread::of(&[value]).unwrap();
        let bars_of = vec![
            ("a".to_owned(), spread(10.0)),
            ("b<".to_owned(), spread(5.0)),
        ];
        let svg = bars(
            "t",
            &[Group {
                name: "g".to_owned(),
                bars: bars_of,
            }],
        );
        let widest = WIDTH - NAME_WIDTH - VALUE_WIDTH;
        assert!(svg.contains(&format!(r#"width="{widest:.1}""#)), "{svg}");
        assert!(
            svg.contains(&format!(r#"width="{:.1}""#, widest / 2.0)),
            "{svg}"
        );
        assert!(svg.contains("b&lt;"));
    }
}
