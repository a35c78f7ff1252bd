//! What the host chooses for devices that no test has run on: workgroups, shared memory, grids, bindings, push
//! constants and operands, as the compiled shaders have them, against limits that are published for these devices.

use ash::vk::PhysicalDeviceLimits;
use denoir_core::ops::{Attention, Epilogue, Linear};
use denoir_core::{DType, Region, TokenLayout, View, Weight};

use crate::device::MAX_BINDINGS;
use crate::kernels::cut::{AttentionCut, LinearCut};
use crate::kernels::linear_matrix::{self, Room};
use crate::kernels::{attention, attention_matrix, linear};
use crate::pipelines::PUSH_BYTES;
use crate::shader::Shader;
use crate::spirv::Module;
use crate::tier::{Matrix, Tiers};

/// A device's limits. What no report gives is the least that Vulkan 1.1 allows.
struct Profile {
    name: &'static str,
    shared_bytes: u32,
    /// Invocations of a workgroup, which is as long in its first dimension.
    invocations: u32,
    storage_bytes: u32,
    storage_buffers: u32,
    push_bytes: u32,
    grid: [u32; 3],
    /// Size of cooperative matrices and of subgroups.
    matrix: Option<([u32; 3], u32)>,
}

const LEAST: Profile = Profile {
    name: "the least of Vulkan 1.1 and eight storage buffers",
    shared_bytes: 16 << 10,
    invocations: 128,
    storage_bytes: 128 << 20,
    storage_buffers: MAX_BINDINGS,
    push_bytes: 128,
    grid: [65535; 3],
    matrix: None,
};

/// Of vulkan.gpuinfo.org, as two collections publish its reports. A: the feature sets of azhirnov/as-en at 2182035, each
/// the least of the reports that it names. B: KhronosGroup/Vulkan-Profiles at 9a121df, one report a file.
const PROFILES: [Profile; 5] = [
    LEAST,
    // A, `min_mobile_adreno`: ten reports, with nubia NX729J and Oculus Quest 3, which have an Adreno 740. Its smallest
    // device has 16 KiB of shared memory.
    Profile { name: "Adreno 740", invocations: 512, storage_buffers: 24, ..LEAST },
    // A, `min_mobile_mali` for shared memory and `min_native_nonuniform_desc_idx` for storage buffers: both have OPPO
    // PFFM20 and asus AI2203_D, which have a Mali-G710. The former's invocations are a Mali-T830's, below Vulkan's least,
    // which is here.
    Profile { name: "Mali-G710", shared_bytes: 32 << 10, storage_buffers: 31, ..LEAST },
    // B, `vp_gpuinfo_apple_m1_0_2_2015_osx_14_3`, MoltenVK.
    Profile {
        name: "Apple M1",
        shared_bytes: 32 << 10,
        invocations: 1024,
        storage_bytes: u32::MAX,
        storage_buffers: 31,
        push_bytes: 4096,
        grid: [1 << 30; 3],
        matrix: None,
    },
    // A, `min_desktop_nv`, which has Tegra Orin with driver 540.2. The grid is the least; matrices are an H200's, of the
    // same instructions.
    Profile {
        name: "Orin",
        shared_bytes: 48 << 10,
        invocations: 1024,
        storage_bytes: u32::MAX,
        storage_buffers: 1 << 20,
        push_bytes: 256,
        grid: [65535; 3],
        matrix: Some(([16; 3], 32)),
    },
];

/// Tokens of an image and beside it, width, heads and feed-forward width of the published networks.
const NETWORKS: [(&str, [usize; 2], usize, usize, usize); 5] = [
    ("JiT-B", [256, 32], 768, 12, 2048),
    ("JiT-L", [256, 32], 1024, 16, 2730),
    ("JiT-H", [256, 32], 1280, 16, 3413),
    ("PixelGen-XL", [256, 32], 1152, 16, 3072),
    ("PixelGen-XXL", [1024, 128], 1536, 24, 6144),
];

impl Profile {
    fn limits(&self) -> PhysicalDeviceLimits {
        PhysicalDeviceLimits {
            max_compute_shared_memory_size: self.shared_bytes,
            max_compute_work_group_invocations: self.invocations,
            ..Default::default()
        }
    }

    /// The tiers to try: without anything, with all but matrices, with everything.
    fn tiers(&self) -> Vec<Tiers> {
        let some = Tiers { fp16: true, packed: true, int8: true, matrix: None };
        let matrix = self.matrix.map(|(size, subgroup)| Matrix { f16: Some(size), int8: Some(size), subgroup });
        let all = matrix.map(|matrix| Tiers { matrix: Some(matrix), ..some });
        [Tiers::default(), some].into_iter().chain(all).collect()
    }

    /// Compares a shader and its grid with the limits.
    fn fits(&self, what: &str, shader: Shader, constants: &[(u32, u32)], grid: [usize; 3]) {
        let (module, at) =
            (Module::new(shader, constants.iter().copied()), format!("{what} on {}: {shader:?}", self.name));
        let threads = module.threads();
        assert!(threads[0] <= self.invocations.into() && threads[1..] == [1, 1], "{at}: {threads:?} invocations");
        assert!(module.shared_bytes() <= self.shared_bytes.into(), "{at}: {} bytes are shared", module.shared_bytes());
        assert!(shader.bindings() <= self.storage_buffers, "{at}: {} bindings", shader.bindings());
        assert!(module.push_bytes() <= self.push_bytes.into(), "{at}: {} bytes are pushed", module.push_bytes());
        assert!((0..3).all(|i| grid[i] <= self.grid[i] as usize), "{at}: {grid:?} workgroups");
    }

    fn holds(&self, what: &str, view: &View) {
        // From the multiple of an alignment that is before it.
        let bytes = view.len_bytes().unwrap_or(usize::MAX).saturating_add(256);
        assert!(bytes <= self.storage_bytes as usize, "{what} on {}: an operand of {bytes} bytes", self.name);
    }
}

/// A layer of a type of weights, with the activations that go with them.
fn layer(dtype: DType, [m, n, k]: [usize; 3]) -> Linear {
    let scale = |region, n| (dtype == DType::I8).then(|| View::dense(region, DType::F32, 0, 1, n));
    Linear {
        x: View::dense(Region::Arena, dtype, 0, m, k),
        x_scale: scale(Region::Arena, m),
        shared_mean: None,
        w: Weight {
            data: View::dense(Region::Weights, dtype, 0, n, k),
            scale: scale(Region::Weights, n),
            residual: None,
        },
        bias: None,
        out: View::dense(Region::Arena, DType::F32, 0, m, n),
        epilogue: Epilogue::Store,
    }
}

fn heads(layout: TokenLayout, heads: usize, width: usize) -> Attention {
    let qkv = View::dense(Region::Arena, DType::F32, 0, layout.rows(), 3 * width);
    let (q, k, v) = (qkv.cols_from(0, width), qkv.cols_from(width, width), qkv.cols_from(2 * width, width));
    let out = View::dense(Region::Arena, DType::F32, 0, layout.rows(), width);
    Attention { q, k, v, heads, queries: layout, keys: layout, products: DType::F32, out }
}

#[test]
fn shaders_ask_for_what_their_tier_has() {
    // Shader, SampledBuffer, Float16, packed dot products, and of matrices Int8, GroupNonUniform with Vote and Shuffle,
    // VulkanMemoryModel and CooperativeMatrixKHR.
    const MATRIX: &[u32] = &[1, 9, 39, 61, 62, 65, 5345, 6022];
    for &shader in Shader::ALL {
        let allowed = match shader {
            Shader::LinearFp16 | Shader::LinearPacked => &[1, 9],
            Shader::LinearInt8Dot => &[1, 6018, 6019][..],
            Shader::AttentionTexel | Shader::LinearTexel => &[1, 46],
            Shader::AttentionMatrix | Shader::LinearMatrix | Shader::LinearMatrixBf16 | Shader::LinearMatrixInt8 => {
                MATRIX
            }
            _ => &[1],
        };
        let module = Module::new(shader, []);
        let asked = &module.capabilities;
        assert!(module.version <= 0x0001_0300, "{shader:?} is SPIR-V {:x}, Vulkan 1.1 has 1.3", module.version);
        assert!(asked.iter().all(|one| allowed.contains(one)), "{shader:?} asks for {asked:?} of {allowed:?}");
        assert!(module.bindings() <= shader.bindings(), "{shader:?} has {} bindings", module.bindings());
        assert!(shader.bindings() <= MAX_BINDINGS && module.push_bytes() <= PUSH_BYTES.into(), "{shader:?}");
    }
}

#[test]
fn kernels_of_a_row_fit_devices() {
    for profile in &PROFILES {
        for &shader in Shader::ALL {
            // Those with tiles are below.
            if !format!("{shader:?}").starts_with("Linear") && !format!("{shader:?}").starts_with("Attention") {
                profile.fits("any row", shader, &[], [1; 3]);
            }
        }
        for (name, [image_tokens, context_tokens], ..) in NETWORKS {
            // Of a guided pair; a row each, in the first dimension or the second.
            assert!(2 * (image_tokens + context_tokens) <= profile.grid[1] as usize, "{name} on {}", profile.name);
        }
    }
}

#[test]
fn layers_of_published_networks_fit_devices() {
    for profile in &PROFILES {
        let room = Room::of(&profile.limits(), true);
        for (name, [image_tokens, context_tokens], width, _, ffn) in NETWORKS {
            let rows = 2 * (image_tokens + context_tokens);
            for [n, k] in
                [[3 * width, width], [width, width], [2 * ffn, width], [width, ffn], [6 * width, width], [768, width]]
            {
                for dtype in [DType::F32, DType::F16, DType::BF16, DType::I8] {
                    let (op, what) = (layer(dtype, [rows, n, k]), format!("{name}, {dtype} {rows}×{n}×{k}"));
                    [&op.x, &op.w.data, &op.out].into_iter().for_each(|view| profile.holds(&what, view));
                    for tiers in profile.tiers() {
                        let matrices = tiers.matrix.and_then(|matrix| linear_matrix::cut(&matrix, room, &op));
                        let LinearCut { shader, constants, rows: tm, cols: tn, .. } =
                            matrices.unwrap_or_else(|| linear::tiled(&tiers, &op));
                        profile.fits(&what, shader, &constants, [n.div_ceil(tn), rows.div_ceil(tm), 1]);
                    }
                }
            }
        }
    }
}

#[test]
fn attention_of_published_networks_fits_devices() {
    for profile in &PROFILES {
        let room = Room::of(&profile.limits(), true);
        for (name, [image_tokens, context_tokens], width, count, _) in NETWORKS {
            let layout = TokenLayout { images: 2, image_tokens, context_tokens };
            for products in [DType::F32, DType::BF16] {
                let op = Attention { products, ..heads(layout, count, width) };
                for tiers in profile.tiers() {
                    let matrices = tiers.matrix.and_then(|matrix| attention_matrix::cut(&matrix, room, &op));
                    let AttentionCut { shader, constants, queries, .. } =
                        matrices.unwrap_or_else(|| attention::tiled(room, &op));
                    let constants: Vec<_> = (0..).zip(constants.into_iter().map(|value| value as u32)).collect();
                    profile.fits(name, shader, &constants, [layout.tokens().div_ceil(queries), count, 2]);
                }
            }
        }
    }
}
