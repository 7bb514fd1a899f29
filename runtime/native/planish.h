/* planish.h: run a model that planish compiled.
 *
 * An artifact (shared library, static library or object) holds one model: machine code, weights and this interface.
 *
 *   const planish_model *model;  planish_context *context;  planish_message message;
 *   if (planish_model_open(&model, &message) != PLANISH_OK) { puts(message.text); exit(1); }
 *   if (planish_context_create(model, NULL, 0, &context, &message) != PLANISH_OK) ...
 *   planish_set_input(context, 0, &x);             // no copy: x.data is read during planish_invoke
 *   if (planish_invoke(context) != PLANISH_OK) puts(planish_context_error(context));
 *   planish_get_output(context, 0, &y);            // no copy: y.data belongs to the context
 *
 * A model is immutable and shared by all threads. A context holds the state of one call at a time: one per thread.
 * No thread is inside the library except during a call, and a pool's threads end with the pool.
 *
 * A process that links several artifacts gets each model by its own name, with planish_open_NAME(&model, &message) instead
 * of planish_model_open (declare it yourself, PLANISH_OPEN_FUNCTION(NAME); characters other than letters, digits and _
 * are _HEX_ in NAME). All other functions work on any model of the same interface version.
 */
#ifndef PLANISH_H
#define PLANISH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define PLANISH_API __attribute__((visibility("default")))
#else
#define PLANISH_API
#endif

#define PLANISH_API_VERSION 3u

typedef int32_t planish_status;
#define PLANISH_OK 0
#define PLANISH_INVALID_ARGUMENT 1   /* a wrong name, rank, shape, type or pointer */
#define PLANISH_INDEX_OUT_OF_RANGE 2 /* an index inside the input data, such as a token id */
#define PLANISH_OUT_OF_MEMORY 3
#define PLANISH_UNSUPPORTED_CPU 4
#define PLANISH_NOT_READY 5 /* an input is not set */
#define PLANISH_VERSION_MISMATCH 6
#define PLANISH_FAILED 7 /* anything else */
#define PLANISH_CANCELLED 8 /* by planish_context_cancel, or the run took too long */

/* The text that goes with a status, NUL-terminated UTF-8, one line. */
typedef struct planish_message {
  char text[1024];
} planish_message;

/* ---- values: the layout is DLPack's, so a DLTensor * may be passed where a planish_tensor * is asked for ---- */
typedef struct planish_device {
  int32_t type; /* 1: CPU */
  int32_t id;
} planish_device;

typedef struct planish_dtype {
  uint8_t code; /* DLDataTypeCode: 0 int, 1 unsigned, 2 float, 4 bfloat, 5 complex, 6 bool ... */
  uint8_t bits;
  uint16_t lanes;
} planish_dtype;

typedef struct planish_tensor { /* = DLTensor */
  void *data;
  planish_device device;
  int32_t ndim;
  planish_dtype dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; NULL: row-major, which is the only order taken */
  uint64_t byte_offset;
} planish_tensor;

typedef struct planish_managed_tensor planish_managed_tensor; /* = DLManagedTensorVersioned */
struct planish_managed_tensor {
  struct {
    uint32_t major, minor;
  } version;
  void *manager;
  void (*deleter)(planish_managed_tensor *self);
  uint64_t flags;
  planish_tensor tensor;
};

typedef enum planish_kind {
  PLANISH_TENSOR = 0,
  PLANISH_STRINGS = 1,  /* a tensor of texts */
  PLANISH_SEQUENCE = 2, /* of values */
  PLANISH_MAP = 3,      /* from numbers or texts to values */
  PLANISH_ABSENT = 4    /* an optional that has no value; one that has a value is that value */
} planish_kind;

/* A value of any kind. `name` may be NULL: then its place in the list counts; inside other values it is not looked at. */
typedef struct planish_value planish_value;
struct planish_value {
  planish_kind kind;
  const char *name;
  union {
    planish_tensor tensor;
    struct {
      const char *const *data; /* UTF-8, row-major */
      const uint64_t *lengths; /* bytes of each; NULL: they end with NUL */
      const int64_t *shape;
      int32_t ndim;
    } strings;
    struct {
      const planish_value *items;
      int64_t count;
    } sequence;
    struct {
      const planish_value *keys;   /* a tensor of i64 (or another integer type) or texts, of one dimension */
      const planish_value *values; /* a tensor or texts of the same length, or a sequence of as many values */
    } map;
    void *reserved[12];
  } as;
};

/* ---- the model ---- */
typedef struct planish_model planish_model;

/* What an input or output is declared to be. `dims` >= 0 are constants, < 0 the symbol of number -(d + 1). `rank` -1:
 * the model leaves it open, or it is known after the run only; then `dims` is NULL. */
typedef struct planish_io {
  const char *name;
  const char *dtype_name; /* "f32", "bf16", "i64", "bool", "string" ...; of others the type as text, such as
                             "seq<f32[N]>", "optional<i64[3]>", "map<string,f32>": then `rank` is -1 */
  planish_dtype dtype;
  int32_t rank;
  const int64_t *dims;
} planish_io;

#define PLANISH_OPEN_FUNCTION(NAME) \
  planish_status planish_open_##NAME(const planish_model **model, planish_message *message)

/* The interface version of this library: PLANISH_API_VERSION of the planish.h it was built with. */
PLANISH_API uint32_t planish_api_version(void);
/* The model of this artifact. Fails if this CPU lacks a feature that the code needs; the message names what. */
PLANISH_API planish_status planish_model_open(const planish_model **model, planish_message *message);
PLANISH_API const char *planish_model_name(const planish_model *model);
PLANISH_API int32_t planish_input_count(const planish_model *model);
PLANISH_API int32_t planish_output_count(const planish_model *model);
PLANISH_API int32_t planish_symbol_count(const planish_model *model);
/* `index` counts from 0; PLANISH_INVALID_ARGUMENT if there is no such input or output. */
PLANISH_API planish_status planish_input_info(const planish_model *model, int32_t index, planish_io *io);
PLANISH_API planish_status planish_output_info(const planish_model *model, int32_t index, planish_io *io);
PLANISH_API const char *planish_symbol_name(const planish_model *model, int32_t index); /* NULL: no such symbol */
/* The number of the input or output of that name, or -1. */
PLANISH_API int32_t planish_find_input(const planish_model *model, const char *name);
PLANISH_API int32_t planish_find_output(const planish_model *model, const char *name);
/* Everything else that is known about the model, as JSON; not NUL-terminated: *bytes long. */
PLANISH_API const char *planish_model_manifest(const planish_model *model, uint64_t *bytes);

/* ---- threads ---- */
/* A pool of threads. A host may pass its own: fill in this structure; `run` calls part(data, i) once for each i in
 * [0, parts), on any threads and in any order, and returns when all have returned; parts <= size. */
typedef struct planish_pool planish_pool;
struct planish_pool {
  uint32_t version; /* PLANISH_API_VERSION */
  int32_t size;     /* threads, the caller included */
  void (*run)(planish_pool *pool, void (*part)(void *data, int32_t index), void *data, int32_t parts);
  void *state;
};
/* min(threads, CPUs this process may use, the cgroup's quota) threads; `threads` 0: as many as that allows. They are
 * started when a context is made, or at first use. NULL when memory runs out. */
PLANISH_API planish_pool *planish_pool_create(int32_t threads);
/* Ends the threads. No call that uses the pool may be running. */
PLANISH_API void planish_pool_destroy(planish_pool *pool);

/* ---- calls ---- */
typedef struct planish_context planish_context;

/* `pool` NULL: a pool of this library's own, made at first use. `threads`: at most so many of the pool, 0: all. */
PLANISH_API planish_status planish_context_create(const planish_model *model, planish_pool *pool, int32_t threads,
                                                  planish_context **context, planish_message *message);
PLANISH_API void planish_context_destroy(planish_context *context); /* NULL is fine */
/* What the last call on this context that failed said. */
PLANISH_API const char *planish_context_error(const planish_context *context);
PLANISH_API int32_t planish_context_threads(const planish_context *context);
/* What each run of this context may take: `max_bytes` of memory beside inputs, outputs of the caller's and weights, and
 * `seconds` of time; 0: no limit. Time is looked at between kernels, rounds of loops and steps of long operations. */
PLANISH_API planish_status planish_context_set_limits(planish_context *context, int64_t max_bytes, double seconds);
/* End the run of this context that is under way, or the next one, with PLANISH_CANCELLED. Any thread may call it, and a
 * signal handler. */
PLANISH_API void planish_context_cancel(planish_context *context);
/* During runs `poll` is called from time to time (20 ms apart at least, between kernels) by the thread that called
 * planish_invoke; when it returns nonzero the run ends with PLANISH_CANCELLED. NULL: none. */
PLANISH_API void planish_context_set_poll(planish_context *context, int32_t (*poll)(void *data), void *data);

/* Bind an input: its data is read in place by every planish_invoke until it is bound to something else. The tensor
 * itself is copied. Name, type, rank and constant dimensions are checked here, symbols by planish_prepare. */
PLANISH_API planish_status planish_set_input(planish_context *context, int32_t index, const planish_tensor *tensor);
/* The same for a value of any kind. Tensors are read in place, also those in sequences and maps; all else is copied. */
PLANISH_API planish_status planish_set_input_value(planish_context *context, int32_t index, const planish_value *value);
/* Bind an output to the caller's memory, which must not overlap an input; NULL: back to the context's own memory. */
PLANISH_API planish_status planish_set_output(planish_context *context, int32_t index, const planish_tensor *tensor);
/* Check that all inputs fit together; after it planish_output_shape knows the shapes of the outputs. */
PLANISH_API planish_status planish_infer_shapes(planish_context *context);
/* Infer the shapes and get all memory ready. planish_invoke does it when needed. */
PLANISH_API planish_status planish_prepare(planish_context *context);
/* The shape of an output after planish_infer_shapes; NULL before it, and if its rank is unknown. Valid until other inputs
 * are set. A dimension that is known after the run only is -1 before it. */
PLANISH_API const int64_t *planish_output_shape(const planish_context *context, int32_t index);
/* The number of dimensions of an output after planish_infer_shapes; -1 before it, if it is known after the run only, and
 * for what is no tensor. */
PLANISH_API int32_t planish_output_rank(const planish_context *context, int32_t index);
/* Bytes of the planned arena after planish_infer_shapes. */
PLANISH_API int64_t planish_arena_bytes(const planish_context *context);
/* Run the model on what is bound. */
PLANISH_API planish_status planish_invoke(planish_context *context);
/* A view of an output, valid until the next planish_invoke, planish_set_output or planish_context_destroy. */
PLANISH_API planish_status planish_get_output(planish_context *context, int32_t index, planish_tensor *tensor);
/* The same for an output of any kind; all pointers in it are valid as long as that view. */
PLANISH_API planish_status planish_get_output_value(planish_context *context, int32_t index, planish_value *value);
/* Take an output away from the context: the caller owns it and calls its deleter. Only for the context's own memory, and
 * for tensors. */
PLANISH_API planish_status planish_take_output(planish_context *context, int32_t index,
                                               planish_managed_tensor **tensor);
/* All at once: set the inputs (by name, or in order), run, and fill `outputs`. An output whose data pointer is NULL
 * becomes a view as of planish_get_output; one that has data is written there. One of another kind than PLANISH_TENSOR
 * becomes a view as of planish_get_output_value, of the kind that the output has. */
PLANISH_API planish_status planish_run(planish_context *context, const planish_value *inputs, int32_t n_inputs,
                                       planish_value *outputs, int32_t n_outputs);

/* ---- states ---- */
/* A model may keep tensors from run to run (counters, caches, running means). A context has its own: it is a session. They
 * begin with the values of the model file; a run that fails leaves them as they were. */
PLANISH_API int32_t planish_state_count(const planish_model *model);
PLANISH_API planish_status planish_state_info(const planish_model *model, int32_t index, planish_io *io);
/* A view of a state, valid until the next call on this context. */
PLANISH_API planish_status planish_get_state(planish_context *context, int32_t index, planish_tensor *tensor);
/* Copy `tensor` into a state. */
PLANISH_API planish_status planish_set_state(planish_context *context, int32_t index, const planish_tensor *tensor);
/* Back to the first values. */
PLANISH_API void planish_reset_states(planish_context *context);

/* ---- profiling ---- */
/* What one part of a run took: generated code between two marks. */
typedef struct planish_mark {
  int64_t nanoseconds;
  int64_t count; /* how often it ran */
} planish_mark;
/* The marks of the last planish_invoke, in the order of the program, and their number: 0 unless the artifact was built
 * for profiling. Valid until the next planish_invoke. */
PLANISH_API int32_t planish_context_profile(const planish_context *context, const planish_mark **marks);

#ifdef __cplusplus
}
#endif
#endif
