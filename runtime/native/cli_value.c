/* Values that are no tensors, in the files of the executable: strings, sequences, maps, optionals as NumPy arrays. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "utf8.h"

static planish_array *find_array(const planish_arrays *arrays, const char *name) {
  for (int32_t i = 0; i < arrays->count; i++)
    if (!strcmp(arrays->items[i].name, name)) return &arrays->items[i];
  return NULL;
}

/* NAME.PART, from malloc; NULL: no memory. */
static char *join(const char *name, const char *part) {
  char *made = malloc(strlen(name) + strlen(part) + 2);
  if (made) sprintf(made, "%s.%s", name, part);
  return made;
}

static char *join_number(const char *name, int64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, number);
  return join(name, text);
}

static bool starts_with(const char *text, const char *name) {
  size_t length = strlen(name);
  return !strncmp(text, name, length) && text[length] == '.';
}

bool planish_cli_has_input(const planish_io *io, const planish_arrays *arrays) {
  planish_type_text inner;
  if (find_array(arrays, io->name) ||
      planish_type_inside((planish_type_text){io->dtype_name, strlen(io->dtype_name)}, "optional", &inner))
    return true;
  bool plain = planish_is_tensor_type(io->dtype_name);
  for (int32_t i = 0; i < arrays->count && !plain; i++)
    if (starts_with(arrays->items[i].name, io->name)) return true;
  return false;
}

bool planish_cli_belongs(const planish_model *model, const char *name) {
  for (int32_t i = 0; i < planish_input_count(model); i++) {
    planish_io io;
    planish_input_info(model, i, &io);
    if (!planish_is_tensor_type(io.dtype_name) && (!strcmp(io.name, name) || starts_with(name, io.name))) return true;
  }
  return false;
}

/* ---- in ---- */
typedef struct reader {
  const planish_arrays *arrays;
  planish_message *message;
  void **blocks; /* all that was allocated */
  size_t count;
} reader;

static void *allocate(reader *r, size_t count, size_t size) {
  void *block = calloc(count + 1, size), **blocks = realloc(r->blocks, (r->count + 1) * sizeof *blocks);
  if (blocks) r->blocks = blocks;
  if (block && blocks) return r->blocks[r->count++] = block;
  free(block);
  planish_say(r->message, PLANISH_OUT_OF_MEMORY, "out of memory");
  return NULL;
}

static bool read_texts(reader *r, const planish_array *array, planish_value *value) {
  size_t count = (size_t)planish_element_count(array->rank, array->shape), width = (size_t)array->width;
  const char **texts = allocate(r, count, sizeof *texts);
  uint64_t *lengths = texts ? allocate(r, count, sizeof *lengths) : NULL;
  char *bytes = lengths ? allocate(r, count * width, 4) : NULL;
  if (!bytes) return false;
  for (size_t i = 0; i < count; i++) {
    size_t used = width;
    uint32_t code = 0;
    const uint8_t *from = (const uint8_t *)array->data + i * width * 4;
    while (used && !memcmp(from + (used - 1) * 4, &code, 4)) used--; /* filled up with NULs */
    texts[i] = bytes;
    for (size_t k = 0; k < used; k++) {
      memcpy(&code, from + k * 4, 4);
      lengths[i] += planish_utf8_write(code < PLANISH_RAW_BYTE ? (int32_t)code : '?', bytes + lengths[i]);
    }
    bytes += lengths[i];
  }
  value->kind = PLANISH_STRINGS;
  value->as.strings.data = texts;
  value->as.strings.lengths = lengths;
  value->as.strings.shape = array->shape;
  value->as.strings.ndim = array->rank;
  return true;
}

static bool read_value(reader *r, planish_type_text type, const char *name, planish_value *value);

static bool read_sequence(reader *r, planish_type_text inner, const char *name, planish_value *value) {
  int64_t count = 0;
  for (bool found = true; found; count += found) {
    char *part = join_number(name, count);
    found = false;
    for (int32_t i = 0; part && i < r->arrays->count && !found; i++)
      found = !strcmp(r->arrays->items[i].name, part) || starts_with(r->arrays->items[i].name, part);
    free(part);
  }
  planish_value *items = allocate(r, (size_t)count, sizeof *items);
  bool good = items != NULL;
  for (int64_t i = 0; i < count && good; i++) {
    char *part = join_number(name, i);
    good = part && read_value(r, inner, part, &items[i]);
    free(part);
  }
  value->kind = PLANISH_SEQUENCE;
  value->as.sequence.items = items;
  value->as.sequence.count = count;
  return good;
}

static bool read_map(reader *r, planish_type_text inner, const char *name, planish_value *value) {
  const char *comma = memchr(inner.at, ',', inner.length);
  planish_value *both = comma ? allocate(r, 2, sizeof *both) : NULL;
  char *keys = join(name, "keys"), *values = join(name, "values");
  bool good = both && keys && values;
  if (good) {
    planish_type_text key = {inner.at, (size_t)(comma - inner.at)}, item = {comma + 1, inner.length - key.length - 1};
    good = read_value(r, key, keys, &both[0]) && read_value(r, item, values, &both[1]);
    value->kind = PLANISH_MAP;
    value->as.map.keys = &both[0];
    value->as.map.values = &both[1];
  }
  free(keys);
  free(values);
  return good;
}

static bool read_value(reader *r, planish_type_text type, const char *name, planish_value *value) {
  planish_type_text inner;
  planish_quoted shown;
  planish_array *array = find_array(r->arrays, name);
  if (planish_type_inside(type, "seq", &inner)) return read_sequence(r, inner, name, value);
  if (planish_type_inside(type, "map", &inner)) return read_map(r, inner, name, value);
  if (planish_type_inside(type, "optional", &inner)) {
    bool there = array != NULL;
    for (int32_t i = 0; i < r->arrays->count; i++) there |= starts_with(r->arrays->items[i].name, name);
    value->kind = PLANISH_ABSENT;
    return !there || read_value(r, inner, name, value);
  }
  if (!array) {
    planish_say(r->message, PLANISH_INVALID_ARGUMENT, "%s: there is no such array", planish_quote(&shown, name));
    return false;
  }
  if (array->is_text) return read_texts(r, array, value);
  value->kind = PLANISH_TENSOR;
  value->as.tensor = (planish_tensor){array->data, {1, 0}, array->rank, array->dtype, array->shape, NULL, 0};
  return true;
}

planish_status planish_cli_bind_value(planish_context *context, int32_t index, const planish_io *io,
                                      const planish_arrays *arrays, planish_message *message) {
  reader r = {arrays, message, NULL, 0};
  planish_value value = {.kind = PLANISH_ABSENT};
  planish_status status = PLANISH_INVALID_ARGUMENT;
  if (read_value(&r, (planish_type_text){io->dtype_name, strlen(io->dtype_name)}, io->name, &value)) {
    status = planish_set_input_value(context, index, &value); /* copies all but the elements of tensors */
    if (status) planish_say(message, status, "%s", planish_context_error(context));
  }
  while (r.count) free(r.blocks[--r.count]);
  free(r.blocks);
  return status;
}

/* ---- out ---- */
static planish_array *new_array(planish_arrays *arrays, const char *name) {
  planish_array *grown = realloc(arrays->items, ((size_t)arrays->count + 1) * sizeof *grown);
  if (!grown) return NULL;
  arrays->items = grown;
  grown[arrays->count] = (planish_array){.name = strdup(name)};
  return grown[arrays->count].name ? &grown[arrays->count++] : NULL;
}

static bool flatten_strings(const char *name, const planish_value *value, planish_arrays *arrays) {
  planish_array *array = new_array(arrays, name);
  int64_t count = planish_element_count(value->as.strings.ndim, value->as.strings.shape), width = 1;
  if (!array) return false;
  for (int64_t i = 0; i < count; i++) { /* as many code points as the longest has */
    int64_t points = 0;
    uint32_t size;
    for (uint64_t at = 0; at < value->as.strings.lengths[i]; at += size, points++)
      planish_utf8_read(value->as.strings.data[i] + at, value->as.strings.lengths[i] - at, &size);
    if (points > width) width = points;
  }
  int64_t bytes;
  if (__builtin_mul_overflow(count, width * 4, &bytes)) return false;
  array->is_text = true;
  array->width = width;
  array->rank = value->as.strings.ndim;
  if (array->rank) memcpy(array->shape, value->as.strings.shape, (size_t)array->rank * sizeof(int64_t));
  array->bytes = bytes;
  uint8_t *to = array->data = calloc((size_t)bytes + 1, 1);
  for (int64_t i = 0; to && i < count; i++) {
    uint32_t size, code;
    uint8_t *place = to + i * width * 4;
    for (uint64_t at = 0; at < value->as.strings.lengths[i]; at += size, place += 4) {
      code = (uint32_t)planish_utf8_read(value->as.strings.data[i] + at, value->as.strings.lengths[i] - at, &size);
      if (code >= PLANISH_RAW_BYTE) code = 0xDC00 + (code - PLANISH_RAW_BYTE); /* Python's surrogateescape */
      memcpy(place, &code, 4);
    }
  }
  return to != NULL;
}

static bool flatten_tensor(const char *name, const planish_tensor *tensor, planish_arrays *arrays) {
  planish_array *array = new_array(arrays, name);
  if (!array) return false;
  array->dtype = tensor->dtype;
  array->rank = tensor->ndim;
  if (tensor->ndim) memcpy(array->shape, tensor->shape, (size_t)tensor->ndim * sizeof(int64_t));
  array->bytes = planish_tensor_bytes(tensor->dtype, tensor->ndim, tensor->shape);
  array->data = tensor->data; /* is_text tells what to free */
  return true;
}

static bool flatten_sequence(const char *name, const planish_value *value, planish_arrays *arrays) {
  static int64_t none = 0;
  bool good = true;
  if (!value->as.sequence.count) {
    char *length = join(name, "len");
    planish_tensor zero = {&none, {1, 0}, 0, {0, 64, 1}, NULL, NULL, 0};
    good = length && flatten_tensor(length, &zero, arrays);
    free(length);
  }
  for (int64_t i = 0; i < value->as.sequence.count && good; i++) {
    char *part = join_number(name, i);
    good = part && planish_cli_flatten(part, &value->as.sequence.items[i], arrays);
    free(part);
  }
  return good;
}

bool planish_cli_flatten(const char *name, const planish_value *value, planish_arrays *arrays) {
  switch (value->kind) {
    case PLANISH_TENSOR: return flatten_tensor(name, &value->as.tensor, arrays);
    case PLANISH_STRINGS: return flatten_strings(name, value, arrays);
    case PLANISH_SEQUENCE: return flatten_sequence(name, value, arrays);
    case PLANISH_ABSENT: return true;
    case PLANISH_MAP: break;
  }
  char *keys = join(name, "keys"), *values = join(name, "values");
  bool good = keys && values && planish_cli_flatten(keys, value->as.map.keys, arrays) &&
              planish_cli_flatten(values, value->as.map.values, arrays);
  free(keys);
  free(values);
  return good;
}

void planish_cli_free_flat(planish_arrays *arrays) {
  for (int32_t i = 0; i < arrays->count; i++) {
    free(arrays->items[i].name);
    if (arrays->items[i].is_text) free(arrays->items[i].data);
  }
  free(arrays->items);
  *arrays = (planish_arrays){NULL, 0};
}

void planish_cli_print_value(const char *name, const planish_value *value) {
  planish_quoted quoted;
  printf("%s ", planish_quote(&quoted, name));
  if (value->kind == PLANISH_STRINGS) {
    int64_t count = planish_element_count(value->as.strings.ndim, value->as.strings.shape);
    printf("string[");
    for (int32_t d = 0; d < value->as.strings.ndim; d++) printf("%s%" PRId64, d ? "," : "", value->as.strings.shape[d]);
    printf("]");
    for (int64_t i = 0; i < count && i < 8; i++) {
      uint64_t length = value->as.strings.lengths[i];
      char *text =
          strndup(value->as.strings.data[i], length < 400 ? (size_t)length : 400); /* they end with each other */
      printf(" %s", text ? planish_quote(&quoted, text) : "...");
      free(text);
    }
    printf("%s\n", count > 8 ? " ..." : "");
  } else if (value->kind == PLANISH_SEQUENCE) {
    printf("a sequence of %" PRId64 "\n", value->as.sequence.count);
  } else {
    printf("%s\n", value->kind == PLANISH_MAP ? "a map" : value->kind == PLANISH_TENSOR ? "a tensor" : "nothing");
  }
}
