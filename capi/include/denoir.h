// denoir: image generation with pixel-space diffusion transformers. Licence: MIT or Apache-2.0.
//
// A model is an open file, which any number of threads share. A pipeline holds the memory and the device that run a
// model, and serves one call at a time. A context belongs to one caller: it holds callbacks, the last error message and
// the cancellation state. The library keeps no other state.
//
// Pointers. Every pointer must stay valid for everything the function reads or writes through it, until the function
// returns. `struct_size` and size arguments must be correct. NULL returns `DENOIR_ERROR_ARGUMENT` unless the function
// documents a meaning for it. Strings are UTF-8 and end with NUL.
//
// Buffers that a function writes must not be read or written meanwhile, except for the pixels of images that are done.
//
// Handles. Free each handle once, with the _free function of its type, when no call uses it any more.
//
// Structures begin with their size, so that a program also works with later versions of the library. Initialise them
// with the function that ends in _init; `denoir_callbacks` is filled in by hand. A `struct_size` above 1024 is an error.
//
// Statuses. Every function lists the statuses it returns. A function that takes a context may also return
// `DENOIR_ERROR_INTERNAL`, a bug in the library; free the handles of that call. `denoir_context_message` gives the
// message.
//
// Memory. If the system refuses memory, the function returns `DENOIR_ERROR_MEMORY`, and nothing of its work remains.
//
// Threads. Any thread with 128 KiB of stack, musl's default, may call any function; a GPU's driver may need more.
// Several threads may use a model, context or device list at once. A pipeline serves one call at a time: a second one
// returns `DENOIR_ERROR_BUSY`.
//
// Callbacks run on the thread that called the library. They must return normally. If a C++ exception leaves one, the
// process ends with `abort`. If a `longjmp` leaves one, what the call holds is lost: its pipeline stays in use for good,
// every later call with it returns `DENOIR_ERROR_BUSY`, and it must not be freed.
//
// Signals and fork. A signal handler may call only `denoir_cancel`. After `fork`, the child has none of its parent's
// threads and devices: drawing with its parent's pipelines returns `DENOIR_ERROR_DEVICE`, also if the fork was in a callback
// and the callback returns in the child. Unless another thread was inside a library call at the time of the fork, the child
// may free its parent's handles, but for those of a call that it is still inside and for pipelines of GPUs, and may create
// its own. It may always call `exec` and `_exit`.


#ifndef DENOIR_H
#define DENOIR_H

// Written by `cargo xtask generate` from capi/src.

#include <stddef.h>
#include <stdint.h>

// The result of a call. `denoir_context_message` gives the error message.
typedef enum denoir_status {
  // Success.
  DENOIR_OK = 0,
  // An argument is missing, is out of range or contradicts another.
  DENOIR_ERROR_ARGUMENT = 1,
  // A buffer is too small.
  DENOIR_ERROR_BUFFER = 2,
  // A file could not be opened or read.
  DENOIR_ERROR_IO = 3,
  // The file or bytes are not a model that denoir can run.
  DENOIR_ERROR_MODEL = 4,
  // The machine or the device does not have enough memory.
  DENOIR_ERROR_MEMORY = 5,
  // The backend or device does not exist.
  DENOIR_ERROR_BACKEND = 6,
  // The device failed, or belongs to the process that this one was forked from; a new pipeline may work.
  DENOIR_ERROR_DEVICE = 7,
  // A callback or `denoir_cancel` stopped the call.
  DENOIR_ERROR_CANCELLED = 8,
  // The image contains an infinity or NaN: the weights are damaged or overflow their type.
  DENOIR_ERROR_NOT_FINITE = 9,
  // Another call is using the pipeline.
  DENOIR_ERROR_BUSY = 10,
  // A bug in the library; free the handles of the call.
  DENOIR_ERROR_INTERNAL = 11,
} denoir_status;

// The backend that runs the network.
typedef enum denoir_backend {
  // The fastest backend that library and machine support.
  DENOIR_BACKEND_AUTO = 0,
  // The processor.
  DENOIR_BACKEND_CPU = 1,
  // Vulkan compute.
  DENOIR_BACKEND_VULKAN = 2,
  // NVIDIA CUDA.
  DENOIR_BACKEND_CUDA = 3,
} denoir_backend;

// The solver for the trajectory from noise to image.
typedef enum denoir_method {
  // Euler (PixelGen).
  DENOIR_METHOD_EULER = 0,
  // Heun, with guidance decided once per step (PixelGen).
  DENOIR_METHOD_HEUN = 1,
  // Heun with one evaluation per step (PixelGen).
  DENOIR_METHOD_HEUN_REUSE = 2,
  // Heun, with guidance decided at each evaluation (JiT); has no flow shift.
  DENOIR_METHOD_HEUN_JIT = 3,
  // Adams-Bashforth of `order` (PixelGen, text to image).
  DENOIR_METHOD_ADAMS = 4,
} denoir_method;

// What a pixel is in a device's memory.
typedef enum denoir_pixel_format {
  // Red, green, blue and alpha, a byte each: image after image, with lines from top to bottom. Alpha is 255, or the
  // fourth channel of models that have one; images of one channel become grey. Other models have no such pixels.
  DENOIR_PIXEL_FORMAT_RGBA8 = 0,
  // Values of 32 bits before conversion, about -1 to 1: (images, channels, height, width).
  DENOIR_PIXEL_FORMAT_F32 = 1,
} denoir_pixel_format;

// The noise generator.
typedef enum denoir_rng {
  // `torch.randn` of an x86-64 CPU, bit for bit: a seed gives the upstream picture.
  DENOIR_RNG_TORCH = 0,
  // A counter-based generator.
  DENOIR_RNG_PHILOX = 1,
} denoir_rng;

// The state of one caller: its callbacks and its last error message. Give each thread its own context, so that each
// reads its own messages.
typedef struct denoir_context denoir_context;

// A snapshot of the devices that the library can use on this machine.
typedef struct denoir_device_list denoir_device_list;

// An open, checked model file. Any number of pipelines and threads may share it.
typedef struct denoir_model denoir_model;

// The memory and the device that run a model. It serves one call at a time; further calls return `DENOIR_ERROR_BUSY`.
typedef struct denoir_pipeline denoir_pipeline;

// A text encoder. Free it before drawing, so that the two models need not fit in memory together.
typedef struct denoir_text_encoder denoir_text_encoder;

// The progress of a call, reported after every evaluation of the network. Later versions add fields at the end.
typedef struct denoir_progress {
  // Bytes of this structure.
  size_t struct_size;
  // Index of the first image of the current batch.
  size_t image;
  // Total number of images.
  size_t images;
  // Solver steps of this batch that are done.
  size_t step;
  // Total solver steps of this batch.
  size_t steps;
  // Evaluations of this batch that are done.
  size_t evaluation;
  // Total evaluations of this batch.
  size_t evaluations;
  // The predicted clean images, (batch, channels, height, width), about -1 to 1, valid during the callback. NULL
  // unless `preview` was set in the callbacks.
  const float *x_hat;
  // Number of images in this batch.
  size_t batch;
  // Colour channels.
  size_t channels;
  // Height of an image in pixels.
  size_t height;
  // Width of an image in pixels.
  size_t width;
} denoir_progress;

// Receives progress. Return 0 to continue; any other value makes the call return `DENOIR_ERROR_CANCELLED`. Inside the
// callback, calls with the same pipeline return `DENOIR_ERROR_BUSY`; other pipelines may draw, also with the same
// context. Handles of the call must not be freed there.
typedef int32_t (*denoir_progress_callback)(void *user_data, const struct denoir_progress *progress);

// Receives warnings for the user, such as an unused device feature: one line, without a newline.
typedef void (*denoir_log_callback)(void *user_data, const char *line);

// The callbacks of a context. They run on the thread that called the library, and may be NULL.
typedef struct denoir_callbacks {
  // Bytes of this structure: `sizeof(denoir_callbacks)`.
  size_t struct_size;
  // Passed to each callback.
  void *user_data;
  // Receives progress.
  denoir_progress_callback progress;
  // Receives warnings.
  denoir_log_callback log;
  // If not 0, `progress` receives `x_hat`; each evaluation then waits for the device and copies the images.
  int32_t preview;
} denoir_callbacks;

// A device. Later versions add fields at the end.
typedef struct denoir_device_info {
  // Bytes of this structure.
  size_t struct_size;
  // A `denoir_backend`, for `backend` of `denoir_pipeline_params`.
  int32_t backend;
  // The device's number, for `device` of `denoir_pipeline_params`.
  int32_t device;
  // The device's name. Valid as long as the list.
  const char *name;
  // The fastest instruction set or feature tier of the device. Valid as long as the list.
  const char *level;
  // Bytes of memory; 0 if the system does not report them.
  uint64_t memory_bytes;
  // Processor threads; 0 if the device is not the processor.
  size_t threads;
} denoir_device_info;

// A request for images. `denoir_request_init` sets one image of class 0, seed 42, and the model's own settings.
typedef struct denoir_request {
  // Bytes of this structure, set by `denoir_request_init`.
  size_t struct_size;
  // Number of images.
  size_t images;
  // Noise seed of the first image; each further image adds one.
  uint64_t seed;
  // A `denoir_rng`.
  int32_t rng;
  // A `denoir_method`.
  int32_t method;
  // One class per image; NULL for class 0. Models that draw from a prompt have no classes.
  const uint32_t *classes;
  // Embedding of the prompt, (text_tokens, text_width), for models that draw from a prompt.
  const float *prompt_embeds;
  // Embedding of the negative prompt, (text_tokens, text_width).
  const float *negative_prompt_embeds;
  // Solver steps.
  uint32_t steps;
  // Order of DENOIR_METHOD_ADAMS, 1 to 4.
  uint32_t order;
  // Classifier-free guidance scale; 1 disables guidance.
  double cfg_scale;
  // Guidance applies at times above this, from 0 (noise) to 1 (image).
  double guidance_lo;
  // Guidance applies at times up to this.
  double guidance_hi;
  // Time shift s in t / (t + (1 - t) s).
  double flow_shift;
  // Factor on the starting noise.
  double noise_scale;
} denoir_request;

// A description of a model's images and conditions. Later versions add fields at the end.
typedef struct denoir_model_info {
  // Bytes of this structure.
  size_t struct_size;
  // Width of an image in pixels.
  size_t width;
  // Height of an image in pixels.
  size_t height;
  // Colour channels.
  size_t channels;
  // Number of classes; 0 for a model that draws from a prompt.
  size_t classes;
  // Number of tokens in a prompt embedding; 0 for a model that draws classes.
  size_t text_tokens;
  // Number of values per token.
  size_t text_width;
} denoir_model_info;

// The options of a pipeline. `denoir_pipeline_params_init` sets the defaults.
typedef struct denoir_pipeline_params {
  // Bytes of this structure, set by `denoir_pipeline_params_init`.
  size_t struct_size;
  // A `denoir_backend`.
  int32_t backend;
  // Device of the backend, as numbered by `denoir_device_info`; -1 for the first.
  int32_t device;
  // Processor threads, the caller's included; 0 for as many as the machine supports.
  uint32_t threads;
  // Maximum number of images drawn together; 0 for 1. A larger batch needs more memory and gives the same images.
  uint32_t batch;
  // Name of the instruction set, such as "avx2" or "scalar"; NULL for the fastest.
  //
  // The fastest may be "amx", which Linux must permit. The library asks for it only if this is "amx", or NULL and the
  // model has int8 or bf16 weights. It then holds for the whole process, for as long as it lives, and the kernel demands
  // larger stacks of signal handlers: `sigaltstack` fails for less than `getauxval(AT_MINSIGSTKSZ)` bytes, about 12 KiB.
  // If a thread has a smaller one already, the kernel refuses, and the next fastest is taken. Name another instruction
  // set to rule this out. Text encoders with int8 weights take the fastest too.
  const char *isa;
  // A `CUstream` or `cudaStream_t` that all work of a CUDA device goes to, in its order and in its context; chooses
  // that backend. It must outlive the pipeline, and must not be captured while the pipeline draws. NULL: the pipeline
  // has a stream of its own, in the device's primary context, which the CUDA runtime uses too. `cudaStreamLegacy` is the
  // default stream.
  void *cuda_stream;
} denoir_pipeline_params;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the library's version, such as `0.1.0`; never NULL.
const char *denoir_version(void);

// Creates a context. Returns NULL if there is no memory for it.
struct denoir_context *denoir_context_new(void);

// Frees a context; NULL does nothing. No call may use the context at the same time or afterwards.
void denoir_context_free(struct denoir_context *context);

// Copies the context's last error message to `buffer`, cut to `size` bytes including a NUL. Returns the length of the
// whole message without the NUL; call with size 0 to find out how much room it needs.
size_t denoir_context_message(const struct denoir_context *context,
                              char *buffer,
                              size_t size);

// Sets the context's callbacks; NULL removes them. A running call keeps the callbacks that it started with.
// `user_data` must stay valid while the callbacks are set or such a call runs.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_context_set_callbacks(struct denoir_context *context,
                                                const struct denoir_callbacks *callbacks);

// Stops the context's running drawing calls, from any thread: each returns `DENOIR_ERROR_CANCELLED` after its current
// evaluation. Does nothing if none is running or `context` is NULL, and never stops a later call, even one that a
// callback of a stopped call begins.
void denoir_cancel(const struct denoir_context *context);

// Lists the devices, the processor first. On failure `*list` is NULL.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_device_list_new(struct denoir_context *context,
                                          struct denoir_device_list **list);

// Returns the number of devices in a list; 0 for NULL.
size_t denoir_device_list_count(const struct denoir_device_list *list);

// Fills `info`, a structure of `size` bytes, with device `index` of a list, counted from 0.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_device_list_describe(struct denoir_context *context,
                                               const struct denoir_device_list *list,
                                               size_t index,
                                               struct denoir_device_info *info,
                                               size_t size);

// Frees a list; NULL does nothing. The strings of its devices become invalid too.
void denoir_device_list_free(struct denoir_device_list *list);

// Returns the bytes that `denoir_generate` needs for `images` images of a model, with `row_stride` bytes from one line
// to the next (0: no gap). Returns 0 if the model is NULL, the stride is shorter than a line, or the size overflows.
size_t denoir_pixels_size(const struct denoir_model *model,
                          size_t images,
                          size_t row_stride);

// Draws into `pixels`, which has `size` bytes: image after image, with lines from top to bottom and `channels` bytes
// per pixel. `row_stride` is the number of bytes from one line to the next (0: no gap). Bytes in gaps are set to 0.
// After a failure the contents of `pixels` are unspecified.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_BUFFER`, `DENOIR_ERROR_MEMORY`, `DENOIR_ERROR_DEVICE`,
// `DENOIR_ERROR_CANCELLED`, `DENOIR_ERROR_NOT_FINITE` or `DENOIR_ERROR_BUSY`.
enum denoir_status denoir_generate(struct denoir_context *context,
                                   struct denoir_pipeline *pipeline,
                                   const struct denoir_request *request,
                                   uint8_t *pixels,
                                   size_t size,
                                   size_t row_stride);

// Draws into `samples`, which has `count` values: (images, channels, height, width), about -1 to 1, before conversion
// to 8 bits.
//
// Returns the same statuses as `denoir_generate`.
enum denoir_status denoir_generate_f32(struct denoir_context *context,
                                       struct denoir_pipeline *pipeline,
                                       const struct denoir_request *request,
                                       float *samples,
                                       size_t count);

// Draws into memory of a CUDA device: `memory` is its address there, as `cudaMalloc` or `cuMemAlloc` gives it, a multiple
// of 4. It has `size` bytes and belongs to the context of the pipeline: the device's primary context, or that of
// `cuda_stream`. `format` is a `denoir_pixel_format`. `row_stride` is the number of bytes from one line to the next, a
// multiple of 4 (0: no gap). Bytes in gaps stay as they are.
//
// The images are complete when the function returns, and never pass through the processor's memory. Until then nothing
// else may use the memory, except for work that `cuda_stream` already has. After a failure its contents are unspecified.
//
// Returns the same statuses as `denoir_generate`; `DENOIR_ERROR_BACKEND` if the pipeline does not run on CUDA.
enum denoir_status denoir_generate_cuda(struct denoir_context *context,
                                        struct denoir_pipeline *pipeline,
                                        const struct denoir_request *request,
                                        int32_t format,
                                        void *memory,
                                        size_t size,
                                        size_t row_stride);

// Fills `values` with the starting noise of a seed for an image of `count` values. `rng` is a `denoir_rng`.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_noise(struct denoir_context *context,
                                int32_t rng,
                                uint64_t seed,
                                float *values,
                                size_t count);

// Opens a model file and reads it. The weights that are needed most are read by `denoir_pipeline_new`, straight into
// their place, so that they are in memory only once; if the file has changed by then, that returns `DENOIR_ERROR_IO`.
// Whatever happens to the file afterwards does no harm. On failure `*model` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_model_open(struct denoir_context *context,
                                     const char *path,
                                     struct denoir_model **model);

// Opens a model file by mapping it into memory: nothing is copied, and pages are read when they are needed.
//
// DANGER: the file must not change while the model or a pipeline of it is in use. If anybody makes it shorter, the system
// ends the whole process with SIGBUS; if anybody overwrites it, the images are of whatever it holds then. Replacing it by
// renaming another file is harmless. On failure `*model` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_model_map(struct denoir_context *context,
                                    const char *path,
                                    struct denoir_model **model);

// Opens a model from `len` bytes in memory. Bytes aligned to 64 are used in place: they must stay there, unchanged,
// until the model and its pipelines are freed. Other bytes are copied. On failure `*model` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_model_open_memory(struct denoir_context *context,
                                            const void *bytes,
                                            size_t len,
                                            struct denoir_model **model);

// Reads a model from an open file, like `denoir_model_open`. The caller still owns the descriptor and may close it after
// the call; its position stays as it is. The model holds a descriptor of its own until it and its pipelines are freed.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_model_open_fd(struct denoir_context *context,
                                        int32_t fd,
                                        struct denoir_model **model);

// Frees a model; NULL does nothing. Pipelines of the model stay valid. No call may use the model at the same time or
// afterwards.
void denoir_model_free(struct denoir_model *model);

// Fills `info`, a structure of `size` bytes, with a description of the model.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_model_describe(struct denoir_context *context,
                                         const struct denoir_model *model,
                                         struct denoir_model_info *info,
                                         size_t size);

// Looks up a class by number or name, ignoring case, and stores it in `*class_`.
//
// Returns `DENOIR_OK`, or `DENOIR_ERROR_ARGUMENT` if an argument is wrong or the class does not exist.
enum denoir_status denoir_model_class(struct denoir_context *context,
                                      const struct denoir_model *model,
                                      const char *number_or_name,
                                      uint32_t *class_);

// Copies the name of a class to `buffer`, cut to `size` bytes including a NUL. Returns the length of the whole name
// without the NUL; 0 if the class has no name.
size_t denoir_model_class_name(const struct denoir_model *model,
                               uint32_t class_,
                               char *buffer,
                               size_t size);

// Fills `params`, a structure of `size` bytes, with the defaults.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`, without a message.
enum denoir_status denoir_pipeline_params_init(struct denoir_pipeline_params *params, size_t size);

// Creates a pipeline and reserves everything that drawing needs. NULL for `params` means the defaults. On failure
// `*pipeline` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MEMORY`, `DENOIR_ERROR_BACKEND` or
// `DENOIR_ERROR_DEVICE`.
enum denoir_status denoir_pipeline_new(struct denoir_context *context,
                                       const struct denoir_model *model,
                                       const struct denoir_pipeline_params *params,
                                       struct denoir_pipeline **pipeline);

// Frees a pipeline; NULL does nothing. No call may use the pipeline at the same time or afterwards.
void denoir_pipeline_free(struct denoir_pipeline *pipeline);

// Fills `request`, a structure of `size` bytes: one image of class 0 with seed 42 and the model's own settings.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`, without a message.
enum denoir_status denoir_request_init(struct denoir_request *request,
                                       size_t size,
                                       const struct denoir_model *model);

// Returns the name of a status, such as `cancelled`; never NULL.
const char *denoir_status_name(int32_t status);

// Reads a text encoder's file: Qwen3 as published for llama.cpp, or as written by `denoir convert`. All of it stays in
// memory until the encoder is freed; `denoir_text_encoder_map` needs less. On failure `*encoder` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_text_encoder_open(struct denoir_context *context,
                                            const char *path,
                                            struct denoir_text_encoder **encoder);

// Opens a text encoder's file by mapping it into memory: only what is needed at a time is there.
//
// DANGER: the file must not change until the encoder is freed, as for `denoir_model_map`. On failure `*encoder` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_text_encoder_map(struct denoir_context *context,
                                           const char *path,
                                           struct denoir_text_encoder **encoder);

// Encodes a prompt and a negative prompt (NULL: the empty prompt) for a model. Each embedding has `count` values, the
// model's `text_tokens` times `text_width`. `threads` may be 0 for as many as the machine supports.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_BUFFER` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_text_encoder_encode(struct denoir_context *context,
                                              const struct denoir_text_encoder *encoder,
                                              const struct denoir_model *model,
                                              const char *prompt,
                                              const char *negative_prompt,
                                              uint32_t threads,
                                              float *prompt_embeds,
                                              float *negative_prompt_embeds,
                                              size_t count);

// Frees a text encoder; NULL does nothing. No call may use the encoder at the same time or afterwards.
void denoir_text_encoder_free(struct denoir_text_encoder *encoder);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DENOIR_H */
