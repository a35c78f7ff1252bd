//! Tables.

use std::collections::HashMap;
use std::path::Path;

use denoir_convert::random::Shape;
use denoir_core::backend::Program;
use denoir_core::ops::Op;
use denoir_core::{DType, EVALUATE};
use denoir_cuda::{DeviceInfo, PlannedLaunch};

use crate::cache::Cache;
use crate::card::Card;
use crate::cost::{self, Cost};
use crate::network::{Planned, Programs};

/// What is followed from change to change.
const FOLLOWED: [(&str, Shape, DType, usize); 12] = [
    ("h100", Shape::JitB16, DType::BF16, 1),
    ("h100", Shape::JitB16, DType::I8, 1),
    ("h100", Shape::PixelGenXl, DType::BF16, 1),
    ("h100", Shape::PixelGenXl, DType::BF16, 2),
    ("h100", Shape::PixelGenXl, DType::I8, 2),
    ("orin-agx", Shape::JitB16, DType::BF16, 1),
    ("orin-agx", Shape::PixelGenXl, DType::BF16, 1),
    ("orin-agx", Shape::PixelGenXl, DType::I8, 1),
    ("orin-agx", Shape::PixelGenXl, DType::I8, 2),
    ("orin-agx", Shape::PixelGenXxl, DType::BF16, 1),
    ("orin-agx", Shape::PixelGenXxl, DType::I8, 1),
    ("orin-nano", Shape::PixelGenXxl, DType::I8, 1),
];
/// Those of which a whole picture is followed.
const PICTURES: [(&str, Shape, DType); 4] = [
    ("h200", Shape::PixelGenXl, DType::BF16),
    ("orin-agx", Shape::PixelGenXxl, DType::BF16),
    ("orin-agx", Shape::PixelGenXxl, DType::I8),
    ("orin-nano", Shape::PixelGenXxl, DType::I8),
];

/// One line for everything that is followed.
pub(crate) fn summary() -> anyhow::Result<()> {
    println!("| card | network | batch | ms | floor ms | launches a block | MB a block from memory |");
    println!("|---|---|---|---|---|---|---|");
    for (key, shape, dtype, batch) in FOLLOWED {
        let Some(card) = Card::find(key) else { continue };
        let planned = Planned::new(shape, dtype, card.info())?;
        let (total, launches) = evaluate(card, &planned, batch)?;
        let depth = planned.depth() as f64;
        println!(
            "| {} | {} {} | {batch} | {:.2} | {:.2} | {:.1} | {:.1} |",
            card.name,
            shape.name(),
            dtype.name(),
            total.us / 1e3,
            total.floor_us / 1e3,
            launches as f64 / depth,
            total.bytes / depth / 1e6,
        );
    }
    println!();
    for (key, shape, dtype) in PICTURES {
        let Some(card) = Card::find(key) else { continue };
        picture(card, shape, dtype)?;
    }
    Ok(())
}

/// The cost of an evaluation whose weights and activations were in use before, and its launches.
fn evaluate(card: &Card, planned: &Planned, batch: usize) -> anyhow::Result<(Cost, usize)> {
    let (info, programs) = (card.info(), planned.evaluation(batch)?);
    let launches = recorded(&programs);
    let costs = costs(card, &info, &launches);
    let mut total = Cost::default();
    costs.into_iter().for_each(|cost| total += cost);
    Ok((total, launches.len()))
}

/// The launches of the program that runs at every evaluation.
fn recorded(programs: &Programs) -> Vec<PlannedLaunch> {
    let evaluation = programs.iter().find(|(program, _)| program.name == "predict");
    evaluation.map_or_else(Vec::new, |(_, planned)| planned.launches.clone())
}

/// The cost of each launch, with a cache that the same launches have filled.
fn costs(card: &Card, info: &DeviceInfo, launches: &[PlannedLaunch]) -> Vec<Cost> {
    let mut cache = Cache::new(card.l2_bytes);
    let mut all = || launches.iter().map(|launch| cost::of(card, info, launch, &mut cache)).collect();
    let _: Vec<Cost> = all();
    all()
}

/// The table of an evaluation: a line for all launches of a kernel with the same blocks and operands.
pub(crate) fn evaluation(card: &Card, shape: Shape, dtype: DType, batch: usize) -> anyhow::Result<()> {
    let planned = Planned::new(shape, dtype, card.info())?;
    let (info, programs) = (card.info(), planned.evaluation(batch)?);
    let launches = recorded(&programs);
    let mut lines: Vec<(&PlannedLaunch, usize, Cost)> = Vec::new();
    let mut total = Cost::default();
    for (launch, cost) in launches.iter().zip(costs(card, &info, &launches)) {
        total += cost;
        let same =
            |of: &PlannedLaunch| of.kernel == launch.kernel && of.grid == launch.grid && depth(of) == depth(launch);
        match lines.iter_mut().find(|(of, ..)| same(of)) {
            Some((_, count, sum)) => {
                *count += 1;
                *sum += cost;
            }
            None => lines.push((launch, 1, cost)),
        }
    }
    lines.sort_by(|a, b| b.2.us.total_cmp(&a.2.us));
    let registers = registers(card.compute);
    println!("{}: {} {}, batch {batch}", card.name, shape.name(), dtype.name());
    println!(
        "kernel                     K  launches  blocks waves regs  KiB  Mproducts   L2 MB  MB      µs  floor  share"
    );
    for (launch, count, cost) in lines {
        let blocks = launch.grid.iter().product::<u32>();
        println!(
            "{:23} {:5} {count:9} {blocks:7} {:5.1} {:>4} {:4} {:10.2} {:7.1} {:7.1} {:7.1} {:6.1} {:5.1}%",
            launch.kernel,
            depth(launch),
            f64::from(blocks) / card.multiprocessors as f64,
            registers.get(launch.kernel).map_or("-", String::as_str),
            launch.shared >> 10,
            cost.products / 1e6,
            cost.l2_bytes / 1e6,
            cost.bytes / 1e6,
            cost.us,
            cost.floor_us,
            cost.us / total.us * 100.0,
        );
    }
    println!(
        "{} launches, {:.1} a block; {:.0} MB from memory; {:.2} ms, no kernel could take less than {:.2} ms",
        launches.len(),
        launches.len() as f64 / planned.depth() as f64,
        total.bytes / 1e6,
        total.us / 1e3,
        total.floor_us / 1e3,
    );
    Ok(())
}

/// Elements along K of a linear layer.
fn depth(launch: &PlannedLaunch) -> usize {
    match &launch.op {
        Op::Linear(op) => op.x.cols,
        _ => 0,
    }
}

/// Registers of each kernel on a card, where the report of the compiler is at hand.
fn registers((major, minor): (u32, u32)) -> HashMap<String, String> {
    let compiled = match (major, minor) {
        (8, 7) => "sm_87",
        (8, _) => "sm_80",
        (10, _) => "sm_100",
        (11, _) => "sm_110",
        (12, _) => "sm_120",
        _ => "sm_90",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda/modules");
    let files = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let reports = files.filter(|path| path.extension().is_some_and(|e| e == "txt"));
    let lines = reports.filter_map(|path| std::fs::read_to_string(path).ok());
    let lines: Vec<String> = lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let of = |line: &String| {
        let (kernel, rest) = line.split_once(' ')?;
        let (target, rest) = rest.split_once(": ")?;
        (target == compiled).then(|| (kernel.to_owned(), rest.split(' ').next().unwrap_or_default().to_owned()))
    };
    lines.iter().filter_map(of).collect()
}

/// A picture by the preset: its evaluations, and what is done once.
pub(crate) fn picture(card: &Card, shape: Shape, dtype: DType) -> anyhow::Result<()> {
    let info = card.info();
    let planned = Planned::new(shape, dtype, info.clone())?;
    let (settings, programs) = planned.picture()?;
    let (mut evaluations, mut runs, mut rest) = (0.0, 0, 0.0);
    for (Program { name, replayed, .. }, program) in &programs {
        let costs = costs(card, &info, &program.launches);
        let us: f64 = costs.iter().map(|cost| cost.us).sum();
        if *replayed {
            evaluations += us * program.runs as f64;
            runs += if *name == EVALUATE { program.runs } else { 0 };
        } else {
            rest += us + uploaded(card, &planned, &program.launches) / card.upload / 1e3;
        }
    }
    println!(
        "{}: a picture of {} {}, {} steps: {:.2} s, of which {runs} evaluations {:.2} s",
        card.name,
        shape.name(),
        dtype.name(),
        settings.steps,
        (evaluations + rest) / 1e6,
        evaluations / 1e6,
    );
    Ok(())
}

/// Bytes of weights that are sent to the device for launches that are not recorded.
fn uploaded(card: &Card, planned: &Planned, launches: &[PlannedLaunch]) -> f64 {
    // What denoir_gpu's Weights decides.
    if !card.unified && (card.memory_gb << 30) / 4 >= planned.file_bytes() as u64 {
        return 0.0;
    }
    let weights = launches.iter().filter_map(|launch| match &launch.op {
        Op::Linear(op) => op.w.data.len_bytes(),
        _ => None,
    });
    weights.sum::<usize>() as f64
}
