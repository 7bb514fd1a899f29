/* What the runtime's files share. Nothing of it is visible outside the artifact. */
#ifndef PLANISH_INTERNAL_H
#define PLANISH_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "planish.h"
#include "planish_abi.h"

#define PLANISH_MAX_RANK 32
#define PLANISH_MAX_THREADS 1024

struct planish_model {
  uint32_t abi_version;
  const planish_module *module;
  const uint8_t *weights;
  const char *name;
};

/* The model of this artifact, once for each level of CPUs that it has code for, best first; defined by the few lines of
 * C that codegen/link.py writes for each artifact. */
extern const planish_model planish_artifact_models[];
extern const uint32_t planish_artifact_levels;

typedef struct planish_slot { /* one input or output of a context */
  planish_tensor tensor;      /* .shape points to `shape`; ndim -1: not a tensor, see `object` */
  int64_t *shape;
  int64_t bytes;
  bool bound;     /* the caller gave memory */
  void *owned;    /* the context's memory (outputs only) */
  int64_t capacity;
  planish_object *object; /* an input that is no tensor; an output that a plan made */
} planish_slot;

typedef struct planish_memory { /* what a run needs besides its outputs; islands use that of the context around them */
  void *arena, *scratch;
  int64_t arena_capacity, scratch_capacity;
} planish_memory;

/* Bytes that a context holds for its runs: arena, scratch, outputs of its own, objects. */
typedef struct planish_budget {
  int64_t used, limit; /* limit 0: none */
} planish_budget;

typedef struct planish_control { /* what may end a run early */
  atomic_int cancelled;  /* by planish_context_cancel, until the run ends */
  atomic_bool armed;     /* any of the three is there: look */
  double seconds;        /* allowed for each run; 0: no limit */
  int64_t deadline;      /* of this run, on CLOCK_MONOTONIC, in nanoseconds; 0: none */
  int64_t next_poll;
  int32_t (*poll)(void *data);
  void *poll_data;
  planish_budget budget;
} planish_control;

typedef struct planish_profile_state { /* profile.c */
  planish_mark *marks;               /* of the last run */
  int32_t count, capacity;
  int64_t last; /* when the previous mark was, in nanoseconds */
} planish_profile_state;

struct planish_context {
  planish_env env; /* must stay first: generated code gets a pointer to it */
  const planish_model *model;
  const planish_module *module; /* the model's, or the variant that fits the inputs */
  planish_pool *pool;
  int32_t threads;
  bool inferred, prepared; /* valid: symbols and sizes; all memory and pointers */
  planish_slot *inputs, *outputs;
  int64_t *symbols, *sizes;
  void *states; /* state.c: memory of what is kept from run to run; NULL where there is nothing */
  planish_memory *memory, own_memory;    /* an island's are those of the context around it */
  planish_control *control, own_control;
  planish_host *host; /* plan.c; NULL before the first run of a plan */
  atomic_int failed; /* 0, or the status of the first failure of this run */
  planish_message message;
  planish_profile_state profile;
};

/* text.c: every text that may hold a name from a model goes through these. */
/* `name` for a message or a log line: quoted, control characters as \xNN, cut after about 100 bytes. Returns `buffer`. */
typedef struct planish_quoted {
  char text[160];
} planish_quoted;
const char *planish_quote(planish_quoted *buffer, const char *name);
/* printf into a message (NULL: dropped), cut if too long; returns `status`. */
planish_status planish_say(planish_message *message, planish_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* dtype.c */
typedef struct planish_dtype_info {
  const char *name;
  planish_dtype dtype;
  const char *npy; /* NumPy's type string, or NULL: travels as raw bits */
} planish_dtype_info;
const planish_dtype_info *planish_dtype_find(const char *name);          /* NULL: unknown */
const planish_dtype_info *planish_dtype_of(planish_dtype dtype);         /* NULL: unknown */
/* Bytes of `shape` elements of a type, or -1 if that does not fit into 63 bits or a dimension is negative. */
int64_t planish_tensor_bytes(planish_dtype dtype, int32_t rank, const int64_t *shape);
int64_t planish_element_count(int32_t rank, const int64_t *shape); /* -1: too large or negative */
double planish_f16_value(uint16_t bits);
double planish_bf16_value(uint16_t bits);
uint16_t planish_f16_bits(double value);
uint16_t planish_bf16_bits(double value);

/* symbols.c */
/* Give the symbols their values and check that the shapes fit. */
planish_status planish_bind_symbols(planish_context *context);
/* Whether the contents that symbols come from are still those of the last time. */
bool planish_same_bindings(const planish_context *context);

/* state.c */
/* Bind the states of a new context to memory of its own and give them their first values. */
planish_status planish_make_states(planish_context *context);
/* After a run that succeeded: what it made is what the next one reads. */
void planish_advance_states(planish_context *context);
/* How many inputs and outputs are the caller's; states stand behind them. */
static inline uint32_t planish_open_inputs(const planish_module *module) { return module->n_inputs - module->n_states; }
static inline uint32_t planish_open_outputs(const planish_module *module) {
  return module->n_outputs - module->n_states;
}

/* bind.c */
/* Whether a tensor has type, shape, order and place that `spec` asks for; `what` begins the message if not. */
planish_status planish_check_tensor(planish_context *context, const char *what, const planish_io_spec *spec,
                                    const planish_tensor *tensor);
/* Bind a tensor that fits, from this context's own memory. */
void planish_fill_slot(planish_slot *slot, const planish_tensor *tensor);
bool planish_is_row_major(const planish_tensor *tensor);
uintptr_t planish_alignment_of(planish_dtype dtype); /* bytes */
/* Whether a tensor has the rank and the constant dimensions of `spec`. */
planish_status planish_check_shape(planish_context *context, const char *what, const planish_io_spec *spec,
                                   const planish_tensor *tensor);

/* variants.c: models with inputs of unknown rank, or with versions for some sizes. */
/* Whether some variant takes an input of this rank. */
planish_status planish_check_rank(const planish_module *module, int32_t input, int32_t rank, planish_message *message);
/* Make the variant that fits the ranks and sizes of all inputs, which are bound, the module of the context; check their shapes. */
planish_status planish_choose_variant(planish_context *context);
/* " 1 2 3": the ranks that input number `input` may have, in order. */
void planish_list_ranks(const planish_module *module, int32_t input, char *text, size_t size);

/* context.c */
/* Charge `bytes` (negative: give back) to a budget (NULL: nobody's); false if the limit forbids it. */
bool planish_charge(planish_budget *budget, int64_t bytes);
/* Forget what outputs a run has left behind. */
void planish_drop_outputs(planish_context *context);
/* The name of a node of the context's module, quoted. */
const char *planish_node_name(const planish_context *context, int32_t node, planish_quoted *buffer);

/* limits.c */
/* A run of the context begins: the time that it may take, and whether anybody cancelled it already. */
void planish_begin_limits(planish_control *control);
void planish_end_limits(planish_control *control);
/* Whether the run goes on: PLANISH_OK, or why not. Callable from the thread that runs. */
planish_status planish_look_at_limits(planish_control *control, planish_message *message);

/* plan.c */
planish_status planish_run_plan(planish_context *context);
void planish_plan_destroy(planish_context *context);

/* value.c */
typedef struct planish_type_text { /* a type as text, or a part of one */
  const char *at;
  size_t length;
} planish_type_text;
/* What stands between "NAME<" and the final '>'; false if the type is another one. */
bool planish_type_inside(planish_type_text type, const char *name, planish_type_text *inner);
bool planish_is_tensor_type(const char *dtype); /* an element type that is no string: no seq<...> and the like */

/* cpu.c: PLANISH_OK, or PLANISH_UNSUPPORTED_CPU and a message that names the missing features. */
planish_status planish_check_cpu(const char *const *features, uint32_t count, planish_message *message);

/* quota.c */
int32_t planish_affinity_count(void);
/* CPUs that the cgroup allows (rounded up), or 0 if unlimited. `proc_cgroup` and `root`: "/proc/self/cgroup" and
 * "/sys/fs/cgroup", other places in tests. */
int32_t planish_quota_count(const char *proc_cgroup, const char *root);

/* pool.c */
planish_pool *planish_pool_create_sized(int32_t size, bool spin); /* exactly `size` threads: for tests */
planish_pool *planish_default_pool(void);
/* Start the workers that `threads` threads need, unless somebody is using the pool. */
void planish_pool_start(planish_pool *pool, int32_t threads);

/* model.c */
/* Check the version, then give out the first of `count` candidates that this CPU can run. */
planish_status planish_open_checked(const planish_model *candidates, uint32_t count, const planish_model **model,
                                    planish_message *message);
int32_t planish_find(const planish_io_spec *specs, uint32_t count, const char *name);
planish_status planish_describe_io(const planish_io_spec *spec, planish_io *io);

#endif
