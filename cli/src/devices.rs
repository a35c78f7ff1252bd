//! `denoir devices`: lists the devices that can run a model.

use denoir::{BackendKind, Device, devices};
use serde_json::json;

use crate::error::Error;
use crate::{stdout, text};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let devices = devices();
    if args.json {
        let list: Vec<_> = devices.iter().map(as_json).collect();
        return stdout::json(&json!({ "devices": list }));
    }
    stdout::text(&devices.iter().map(as_text).collect::<String>())
}

fn as_json(device: &Device) -> serde_json::Value {
    json!({
        "backend": device.backend.name(),
        "device": device.index,
        "name": device.name,
        "levels": device.levels,
        "threads": device.threads,
        "memory_bytes": device.memory_bytes,
    })
}

fn as_text(device: &Device) -> String {
    let memory = device.memory_bytes.map_or_else(|| "unknown".into(), text::bytes);
    let fastest = device.levels.last().copied().unwrap_or_default();
    let threads =
        if device.backend == BackendKind::Cpu { format!("  threads  {}\n", device.threads) } else { String::new() };
    format!(
        "{} {}: {}\n{threads}  memory   {memory}\n  levels   {} (fastest: {fastest})\n",
        device.backend.name(),
        device.index,
        device.name,
        device.levels.join(", "),
    )
}
