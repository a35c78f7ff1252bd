// denoir: image generation with pixel-space diffusion transformers. Licence: MIT or Apache-2.0.
//
// A model is a file, opened once and shared. A pipeline is the memory and the device that run it, for one call at a time.
// A context belongs to whoever calls: callbacks, the message of the last failure, cancelling. The library has no state
// outside of these.
//
// Pointers. The caller must pass pointers that are valid, for what the function reads or writes there, until it returns;
// `struct_size` and arguments for sizes must be true. A NULL that a function does not provide for is
// `DENOIR_ERROR_ARGUMENT`. Strings are UTF-8 and end with NUL.
//
// Handles. The caller must free each once, by the function named after it, when no call uses it any more.
//
// Structures begin with their size and are set up by a function ending in _init (or in `denoir_callbacks` by hand), so
// that a program works with later versions of the library too.
//
// Statuses. Every function lists what it returns; any that takes a context may also return `DENOIR_ERROR_INTERNAL`, a fault
// of the library, after which its handles should be freed. The words are in the context: `denoir_context_message`.
//
// Threads. Every function may be called from any thread with 256 KiB of stack. Models, contexts and device lists may be
// used by several at once. A pipeline has one call at a time: a second one returns `DENOIR_ERROR_BUSY`.
//
// Callbacks run on the thread that called the library. They must return: the caller must not let an exception or `longjmp`
// leave one.
//
// Signals and fork. The caller must not call the library from a signal handler, but for `denoir_cancel`. After `fork`, the
// child must not use handles of its parent, whose threads and devices it does not have. It may make its own, unless another
// thread was in a call of the library when it forked.


#ifndef DENOIR_H
#define DENOIR_H

// Written by `cargo xtask generate` from capi/src.

#include <stddef.h>
#include <stdint.h>

// How a call ended. The context has the words: `denoir_context_message`.
typedef enum denoir_status {
  // It did what was asked.
  DENOIR_OK = 0,
  // An argument is missing, out of range or contradicts another.
  DENOIR_ERROR_ARGUMENT = 1,
  // A buffer is smaller than what goes into it.
  DENOIR_ERROR_BUFFER = 2,
  // A file could not be opened or read.
  DENOIR_ERROR_IO = 3,
  // A file or bytes hold no model that denoir runs.
  DENOIR_ERROR_MODEL = 4,
  // The machine or the device has too little memory.
  DENOIR_ERROR_MEMORY = 5,
  // There is no such backend or device.
  DENOIR_ERROR_BACKEND = 6,
  // The device failed; a new pipeline may work.
  DENOIR_ERROR_DEVICE = 7,
  // A callback or `denoir_cancel` asked to stop.
  DENOIR_ERROR_CANCELLED = 8,
  // The image holds an infinity or NaN: the weights are damaged or overflow their type.
  DENOIR_ERROR_NOT_FINITE = 9,
  // The pipeline is in use by another call.
  DENOIR_ERROR_BUSY = 10,
  // A fault of the library itself; the handles of the call should be freed.
  DENOIR_ERROR_INTERNAL = 11,
} denoir_status;

// What runs the network.
typedef enum denoir_backend {
  // The fastest that the library and the machine have.
  DENOIR_BACKEND_AUTO = 0,
  // The processor.
  DENOIR_BACKEND_CPU = 1,
  // Vulkan compute.
  DENOIR_BACKEND_VULKAN = 2,
  // NVIDIA CUDA.
  DENOIR_BACKEND_CUDA = 3,
} denoir_backend;

// How the trajectory from noise to image is solved.
typedef enum denoir_method {
  // Euler (PixelGen).
  DENOIR_METHOD_EULER = 0,
  // Heun, guidance decided once a step (PixelGen).
  DENOIR_METHOD_HEUN = 1,
  // Heun with one evaluation a step (PixelGen).
  DENOIR_METHOD_HEUN_REUSE = 2,
  // Heun, guidance decided at each evaluation (JiT); has no flow shift.
  DENOIR_METHOD_HEUN_JIT = 3,
  // Adams-Bashforth of `order` (PixelGen, text to image).
  DENOIR_METHOD_ADAMS = 4,
} denoir_method;

// What noise a seed gives.
typedef enum denoir_rng {
  // `torch.randn` of an x86-64 CPU, to the bit: a seed gives upstream's picture.
  DENOIR_RNG_TORCH = 0,
  // Counter-based.
  DENOIR_RNG_PHILOX = 1,
} denoir_rng;

// What belongs to one caller: its callbacks and the message of its last failure. Threads that draw at once should each
// have their own, so that each reads its own messages.
typedef struct denoir_context denoir_context;

// The devices that the library can use on this machine, as they were when the list was made.
typedef struct denoir_device_list denoir_device_list;

// A model file, opened and checked. Any number of pipelines and threads share it.
typedef struct denoir_model denoir_model;

// The memory and the device that run a model. One call at a time uses it; further ones get `DENOIR_ERROR_BUSY`.
typedef struct denoir_pipeline denoir_pipeline;

// A text encoder. Free it before drawing, and the larger of the two models decides how much memory is needed.
typedef struct denoir_text_encoder denoir_text_encoder;

// How far a call is; shown after every evaluation of the network. Later versions add fields at the end.
typedef struct denoir_progress {
  // Bytes of this structure.
  size_t struct_size;
  // Number of the first image of the batch under way.
  size_t image;
  // Images in all.
  size_t images;
  // Solver steps of this batch done.
  size_t step;
  // Solver steps of this batch in all.
  size_t steps;
  // Evaluations of this batch done.
  size_t evaluation;
  // Evaluations of this batch in all.
  size_t evaluations;
  // The predicted clean images, (batch, channels, height, width), about -1 to 1, valid during the callback. NULL unless
  // `preview` was set in the callbacks.
  const float *x_hat;
  // Images of this batch.
  size_t batch;
  // Colour channels.
  size_t channels;
  // Lines of an image.
  size_t height;
  // Pixels of a line.
  size_t width;
} denoir_progress;

// Shown progress. Anything but 0 stops: the call returns `DENOIR_ERROR_CANCELLED`. A call of this library for the same
// pipeline returns `DENOIR_ERROR_BUSY` here.
typedef int32_t (*denoir_progress_callback)(void *user_data, const struct denoir_progress *progress);

// Told what the user should know, such as a device feature that is not used: a line without its end.
typedef void (*denoir_log_callback)(void *user_data, const char *line);

// What a context calls, on the thread that called the library. Functions may be NULL.
typedef struct denoir_callbacks {
  // Bytes of this structure: `sizeof(denoir_callbacks)`.
  size_t struct_size;
  // Passed to each.
  void *user_data;
  // Shown progress.
  denoir_progress_callback progress;
  // Told messages.
  denoir_log_callback log;
  // Not 0: `progress` is shown `x_hat`. Each evaluation then waits for the device and copies the images.
  int32_t preview;
} denoir_callbacks;

// A device. Later versions add fields at the end.
typedef struct denoir_device_info {
  // Bytes of this structure.
  size_t struct_size;
  // For `backend` of `denoir_pipeline_params`: a `denoir_backend`.
  int32_t backend;
  // For `device` of `denoir_pipeline_params`.
  int32_t device;
  // What it is called. Lives as long as the list.
  const char *name;
  // The fastest instruction set or feature tier that it has. Lives as long as the list.
  const char *level;
  // Bytes of memory; 0 where the system does not tell.
  uint64_t memory_bytes;
  // Processor threads; 0 where it is no processor.
  size_t threads;
} denoir_device_info;

// What to draw. `denoir_request_init` sets one image of class 0, seed 42, and the model's own settings.
typedef struct denoir_request {
  // Bytes of this structure, set by `denoir_request_init`.
  size_t struct_size;
  // Number of images.
  size_t images;
  // The first image's noise seed; the others follow, one up each.
  uint64_t seed;
  // A `denoir_rng`.
  int32_t rng;
  // A `denoir_method`.
  int32_t method;
  // A class for each image; NULL for class 0. Models that draw from a prompt have no classes.
  const uint32_t *classes;
  // (text_tokens, text_width): what the images show, for models that draw from a prompt.
  const float *prompt_embeds;
  // (text_tokens, text_width): what guidance leads away from.
  const float *negative_prompt_embeds;
  // Solver steps.
  uint32_t steps;
  // Order of DENOIR_METHOD_ADAMS, 1 to 4.
  uint32_t order;
  // Classifier-free guidance scale; 1 is none.
  double cfg_scale;
  // Guidance applies for times above this, 0 (noise) to 1 (image).
  double guidance_lo;
  // Guidance applies for times up to this.
  double guidance_hi;
  // Time shift s in t / (t + (1 - t) s).
  double flow_shift;
  // Factor on the starting noise.
  double noise_scale;
} denoir_request;

// What a model draws. Later versions add fields at the end.
typedef struct denoir_model_info {
  // Bytes of this structure.
  size_t struct_size;
  // Pixels of a line.
  size_t width;
  // Lines of an image.
  size_t height;
  // Colour channels.
  size_t channels;
  // Classes, from 0; 0 for a model that draws from a prompt.
  size_t classes;
  // Tokens of a prompt's embeddings; 0 for a model that draws classes.
  size_t text_tokens;
  // Values of each token.
  size_t text_width;
} denoir_model_info;

// Where and how a pipeline runs. `denoir_pipeline_params_init` sets the defaults.
typedef struct denoir_pipeline_params {
  // Bytes of this structure, set by `denoir_pipeline_params_init`.
  size_t struct_size;
  // A `denoir_backend`.
  int32_t backend;
  // Which device of the backend, as `denoir_device_info` numbers them; -1 for the first.
  int32_t device;
  // Processor threads, the caller's included; 0 for as many as the machine has.
  uint32_t threads;
  // Images drawn together at most; 0 for 1. More need more memory and give the same images.
  uint32_t batch;
  // Instruction set by name, such as "avx2" or "scalar"; NULL for the fastest.
  const char *isa;
} denoir_pipeline_params;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version, as `0.1.0`. Never NULL.
const char *denoir_version(void);

// A new context. Never NULL.
struct denoir_context *denoir_context_new(void);

// Frees a context; NULL does nothing. The caller must not use it afterwards, nor while another call does.
void denoir_context_free(struct denoir_context *context);

// Copies the message of the context's last failure, as much of it as fits into `size` bytes, and a NUL. Returns the length
// of the whole message without the NUL: a call with size 0 tells how much room it takes.
size_t denoir_context_message(const struct denoir_context *context,
                              char *buffer,
                              size_t size);

// Sets the context's callbacks, or takes them away with NULL. A call that is under way keeps those that it began with. The
// caller must keep alive what `user_data` points to, for as long as the callbacks are set or such a call runs.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_context_set_callbacks(struct denoir_context *context,
                                                const struct denoir_callbacks *callbacks);

// Stops the drawings that are under way with this context, from any thread: each returns `DENOIR_ERROR_CANCELLED` after
// the evaluation that it is at. Where none is under way, and for NULL, it does nothing: it never stops a later call.
void denoir_cancel(const struct denoir_context *context);

// Lists the devices, the processor first. On a failure `*list` is NULL.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_device_list_new(struct denoir_context *context,
                                          struct denoir_device_list **list);

// Number of devices in a list; 0 for NULL.
size_t denoir_device_list_count(const struct denoir_device_list *list);

// Describes device `index` of a list, from 0: fills `info`, whose size in bytes is `size`.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_device_list_describe(struct denoir_context *context,
                                               const struct denoir_device_list *list,
                                               size_t index,
                                               struct denoir_device_info *info,
                                               size_t size);

// Frees a list; NULL does nothing. The caller must not use it or the texts of its devices afterwards.
void denoir_device_list_free(struct denoir_device_list *list);

// Bytes that `images` images of a model take in `denoir_generate`, with `row_stride` bytes from a line to the next (0: no
// gap). Returns 0 where the model is NULL, the stride is shorter than a line, or the size is beyond memory.
size_t denoir_pixels_size(const struct denoir_model *model,
                          size_t images,
                          size_t row_stride);

// Draws into `pixels`, `size` bytes: image after image, each its lines from the top, each line its pixels of `channels`
// bytes, with `row_stride` bytes from a line to the next (0: no gap). Bytes of a gap are set to 0. After a failure the
// pixels hold nothing of use.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_BUFFER`, `DENOIR_ERROR_MEMORY`, `DENOIR_ERROR_DEVICE`,
// `DENOIR_ERROR_CANCELLED`, `DENOIR_ERROR_NOT_FINITE` or `DENOIR_ERROR_BUSY`.
enum denoir_status denoir_generate(struct denoir_context *context,
                                   struct denoir_pipeline *pipeline,
                                   const struct denoir_request *request,
                                   uint8_t *pixels,
                                   size_t size,
                                   size_t row_stride);

// Draws into `samples`, `count` values: (images, channels, height, width), about -1 to 1, before they are made 8-bit.
//
// Returns what `denoir_generate` does.
enum denoir_status denoir_generate_f32(struct denoir_context *context,
                                       struct denoir_pipeline *pipeline,
                                       const struct denoir_request *request,
                                       float *samples,
                                       size_t count);

// Fills `values` with the noise of a seed, as an image of `count` values starts from. `rng` is a `denoir_rng`.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_noise(struct denoir_context *context,
                                int32_t rng,
                                uint64_t seed,
                                float *values,
                                size_t count);

// Maps a model file into memory; nothing is copied. The caller must not change the file while the model is in use. On a
// failure `*model` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO` or `DENOIR_ERROR_MODEL`.
enum denoir_status denoir_model_open(struct denoir_context *context,
                                     const char *path,
                                     struct denoir_model **model);

// A model from `len` bytes in memory. Bytes at a multiple of 64 are used where they are: the caller must keep them there,
// unchanged, until the model and its pipelines are freed. Others are copied. On a failure `*model` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_MODEL` or `DENOIR_ERROR_MEMORY`.
enum denoir_status denoir_model_open_memory(struct denoir_context *context,
                                            const void *bytes,
                                            size_t len,
                                            struct denoir_model **model);

// Maps an open file into memory, as `denoir_model_open` does. The descriptor stays the caller's, who may close it after
// the call.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO` or `DENOIR_ERROR_MODEL`.
enum denoir_status denoir_model_open_fd(struct denoir_context *context,
                                        int32_t fd,
                                        struct denoir_model **model);

// Frees a model; NULL does nothing. Pipelines that use it keep what they need. The caller must not use it afterwards, nor
// while another call does.
void denoir_model_free(struct denoir_model *model);

// Describes a model: fills `info`, whose size in bytes is `size`.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`.
enum denoir_status denoir_model_describe(struct denoir_context *context,
                                         const struct denoir_model *model,
                                         struct denoir_model_info *info,
                                         size_t size);

// Sets `*class_` to the class of this number or name (case does not matter).
//
// Returns `DENOIR_OK`, or `DENOIR_ERROR_ARGUMENT`, also where there is no such class.
enum denoir_status denoir_model_class(struct denoir_context *context,
                                      const struct denoir_model *model,
                                      const char *number_or_name,
                                      uint32_t *class_);

// Copies the name of a class, as much of it as fits into `size` bytes, and a NUL. Returns the length of the whole name
// without the NUL; 0 where the class has no name.
size_t denoir_model_class_name(const struct denoir_model *model,
                               uint32_t class_,
                               char *buffer,
                               size_t size);

// Sets the defaults in `params`, whose size in bytes is `size`.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`, without a message.
enum denoir_status denoir_pipeline_params_init(struct denoir_pipeline_params *params, size_t size);

// Reserves all that drawing takes. NULL for `params`: the defaults. On a failure `*pipeline` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_MEMORY`, `DENOIR_ERROR_BACKEND` or
// `DENOIR_ERROR_DEVICE`.
enum denoir_status denoir_pipeline_new(struct denoir_context *context,
                                       const struct denoir_model *model,
                                       const struct denoir_pipeline_params *params,
                                       struct denoir_pipeline **pipeline);

// Frees a pipeline; NULL does nothing. The caller must not use it afterwards, nor while another call does.
void denoir_pipeline_free(struct denoir_pipeline *pipeline);

// Sets in `request`, whose size in bytes is `size`, one image of class 0 with seed 42 and the model's own settings.
//
// Returns `DENOIR_OK` or `DENOIR_ERROR_ARGUMENT`, without a message.
enum denoir_status denoir_request_init(struct denoir_request *request,
                                       size_t size,
                                       const struct denoir_model *model);

// A status as a word, such as `cancelled`; never NULL.
const char *denoir_status_name(int32_t status);

// Maps a text encoder's file into memory: Qwen3 as published for llama.cpp, or as `denoir convert` wrote it. On a
// failure `*encoder` is NULL.
//
// Returns `DENOIR_OK`, `DENOIR_ERROR_ARGUMENT`, `DENOIR_ERROR_IO` or `DENOIR_ERROR_MODEL`.
enum denoir_status denoir_text_encoder_open(struct denoir_context *context,
                                            const char *path,
                                            struct denoir_text_encoder **encoder);

// Encodes a prompt and a negative prompt (NULL: the empty one) for a model: `count` values each, which are the model's
// `text_tokens` times `text_width`. `threads` is 0 for as many as the machine has.
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

// Frees a text encoder; NULL does nothing. The caller must not use it afterwards, nor while another call does.
void denoir_text_encoder_free(struct denoir_text_encoder *encoder);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DENOIR_H */
