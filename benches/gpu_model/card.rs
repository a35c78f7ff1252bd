//! Cards: what the model must know of each.

use denoir_cuda::DeviceInfo;

/// A card. Rates of its multiprocessors are in `denoir_cuda`, which chooses tiles by them.
pub(crate) struct Card {
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) compute: (u32, u32),
    pub(crate) multiprocessors: usize,
    /// Of the multiprocessors under load, in MHz.
    pub(crate) clock: f64,
    /// Multiply-adds of a multiprocessor's tensor cores in a clock, of 16 bits and of int8.
    pub(crate) peak: [f64; 2],
    /// GB/s of a copy, read and written.
    pub(crate) memory: f64,
    /// Bytes of the second-level cache, and what it delivers in a clock.
    pub(crate) l2_bytes: usize,
    pub(crate) l2_rate: f64,
    /// KiB of shared memory of a multiprocessor.
    pub(crate) shared_kib: usize,
    /// From one kernel of a graph to the next, in µs.
    pub(crate) gap: f64,
    /// GB/s from the processor's memory; of a card that shares it, one core's copy.
    pub(crate) upload: f64,
    pub(crate) unified: bool,
    pub(crate) memory_gb: u64,
}

const H200: Card = Card {
    key: "h200",
    name: "H200",
    compute: (9, 0),
    multiprocessors: 132,
    clock: 1755.0,
    peak: [2048.0, 4096.0],
    memory: 4190.0,
    l2_bytes: 60 << 20,
    l2_rate: 4700.0,
    shared_kib: 228,
    gap: 2.2,
    upload: 10.0,
    unified: false,
    memory_gb: 141,
};

const ORIN_AGX: Card = Card {
    key: "orin-agx",
    name: "Jetson AGX Orin 64 GB",
    compute: (8, 7),
    multiprocessors: 16,
    clock: 1300.0,
    peak: [1024.0, 2048.0],
    memory: 165.0,
    l2_bytes: 4 << 20,
    l2_rate: 512.0,
    shared_kib: 164,
    gap: 3.0,
    upload: 10.0,
    unified: true,
    memory_gb: 64,
};

/// Sources: NVIDIA's data sheets and architecture papers of each card. Of the H200 the copy is measured, the gap and the
/// second-level cache's rate are fitted (`benches/record/2026-11-28-h200.md`), and stand for the H100's too. What no paper
/// gives is assumed: clocks under load, rates of second-level caches, gaps and uploads of the others, the caches of Orin
/// Nano and Thor, four fifths of the memory's rate.
pub(crate) const CARDS: [Card; 7] = [
    H200,
    Card { key: "h100", name: "H100 SXM", memory: 2900.0, l2_bytes: 50 << 20, memory_gb: 80, ..H200 },
    Card {
        key: "a100",
        name: "A100 SXM 80 GB",
        compute: (8, 0),
        multiprocessors: 108,
        clock: 1410.0,
        peak: [1024.0, 2048.0],
        memory: 1650.0,
        l2_bytes: 40 << 20,
        l2_rate: 3400.0,
        shared_kib: 164,
        gap: 2.2,
        upload: 10.0,
        unified: false,
        memory_gb: 80,
    },
    Card {
        key: "rtx4090",
        name: "RTX 4090",
        compute: (8, 9),
        multiprocessors: 128,
        clock: 2520.0,
        peak: [256.0, 1024.0],
        memory: 860.0,
        l2_bytes: 72 << 20,
        l2_rate: 2000.0,
        shared_kib: 100,
        gap: 1.5,
        upload: 10.0,
        unified: false,
        memory_gb: 24,
    },
    ORIN_AGX,
    Card {
        key: "orin-nano",
        name: "Jetson Orin Nano 8 GB (25 W)",
        multiprocessors: 8,
        clock: 1020.0,
        memory: 82.0,
        l2_bytes: 2 << 20,
        l2_rate: 256.0,
        gap: 3.5,
        upload: 6.0,
        memory_gb: 8,
        ..ORIN_AGX
    },
    Card {
        key: "thor",
        name: "Jetson AGX Thor",
        compute: (11, 0),
        multiprocessors: 20,
        clock: 1575.0,
        peak: [4096.0, 4096.0],
        memory: 220.0,
        l2_bytes: 32 << 20,
        l2_rate: 1024.0,
        shared_kib: 228,
        gap: 2.5,
        upload: 15.0,
        unified: true,
        memory_gb: 128,
    },
];

impl Card {
    pub(crate) fn find(key: &str) -> Option<&'static Card> {
        CARDS.iter().find(|card| card.key == key)
    }

    /// The card as the driver would describe it.
    pub(crate) fn info(&self) -> DeviceInfo {
        DeviceInfo {
            index: 0,
            name: self.name.into(),
            compute: self.compute,
            memory_bytes: self.memory_gb << 30,
            multiprocessors: self.multiprocessors,
            shared_bytes: (self.shared_kib - 1) << 10,
            multiprocessor_shared_bytes: self.shared_kib << 10,
            l2_bytes: self.l2_bytes,
            unified: self.unified,
        }
    }

    /// From one kernel to the next where both are in a graph. Those that overlap save a microsecond: what llama.cpp's
    /// gained by it, a tenth of a token's time on a card of compute capability 12.0 (ggml-org/llama.cpp, pull request 22522).
    pub(crate) fn gap_in_graph(&self) -> f64 {
        if self.compute >= (9, 0) { self.gap - 1.0 } else { self.gap }
    }

    /// Microseconds of so many clocks.
    pub(crate) fn us(&self, clocks: f64) -> f64 {
        clocks / self.clock
    }
}
