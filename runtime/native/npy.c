/* Reading .npy files, from anybody: every length is checked against the file before it is believed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"

#define HEADER_LIMIT 65536u /* NumPy itself stops at 10,000 unless told otherwise */

bool planish_read_at(int fd, void *data, uint64_t bytes, uint64_t offset) {
  uint8_t *out = data;
  while (bytes) {
    ssize_t got = pread(fd, out, bytes < (1u << 30) ? (size_t)bytes : 1u << 30, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got;
    offset += (uint64_t)got;
    bytes -= (uint64_t)got;
  }
  return true;
}

void planish_arrays_free(planish_arrays *arrays) {
  for (int32_t i = 0; i < arrays->count; i++) {
    free(arrays->items[i].name);
    planish_array_release(&arrays->items[i]);
  }
  free(arrays->items);
  *arrays = (planish_arrays){NULL, 0};
}

const planish_dtype_info *planish_raw_suffix(char *name) {
  char *colon = strrchr(name, ':');
  const planish_dtype_info *info = colon ? planish_dtype_find(colon + 1) : NULL;
  if (!info || info->npy) return NULL; /* "x:0" is a name */
  *colon = 0;
  return info;
}

/* ---- the header: a Python dictionary such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } ---- */
typedef struct header {
  char descr[24];
  bool has_descr, fortran, has_fortran, has_shape;
  int32_t rank;
  int64_t shape[PLANISH_MAX_RANK];
} header;

static const char *skip(const char *at) {
  while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
  return at;
}

/* 'text' into `out`; NULL if it is not a short plain string. */
static const char *parse_string(const char *at, char *out, size_t size) {
  char quote = *at++;
  if (quote != '\'' && quote != '"') return NULL;
  size_t used = 0;
  for (; *at && *at != quote; at++) {
    if (*at == '\\' || used + 1 >= size) return NULL;
    out[used++] = *at;
  }
  out[used] = 0;
  return *at ? at + 1 : NULL;
}

/* (3, 4) or (3,) or () */
static const char *parse_shape(const char *at, header *h) {
  if (*at++ != '(') return NULL;
  for (;;) {
    at = skip(at);
    if (*at == ')') return at + 1;
    if (*at < '0' || *at > '9' || h->rank == PLANISH_MAX_RANK) return NULL;
    int64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
      int64_t digit = *at - '0';
      if (__builtin_mul_overflow(value, (int64_t)10, &value) || __builtin_add_overflow(value, digit, &value))
        return NULL;
    }
    if (*at == 'L') at++; /* written by Python 2 */
    h->shape[h->rank++] = value;
    at = skip(at);
    if (*at == ',') {
      at++;
    } else if (*at != ')') {
      return NULL;
    }
  }
}

static const char *parse_entry(const char *at, header *h) {
  char key[24];
  at = parse_string(at, key, sizeof key);
  if (!at) return NULL;
  at = skip(at);
  if (*at++ != ':') return NULL;
  at = skip(at);
  if (!strcmp(key, "descr") && !h->has_descr) {
    h->has_descr = true;
    return parse_string(at, h->descr, sizeof h->descr);
  }
  if (!strcmp(key, "fortran_order") && !h->has_fortran) {
    h->has_fortran = true;
    h->fortran = !strncmp(at, "True", 4);
    return h->fortran ? at + 4 : !strncmp(at, "False", 5) ? at + 5 : NULL;
  }
  if (!strcmp(key, "shape") && !h->has_shape) {
    h->has_shape = true;
    return parse_shape(at, h);
  }
  return NULL;
}

static bool parse_header(const char *at, header *h) {
  at = skip(at);
  if (*at++ != '{') return false;
  for (at = skip(at); *at != '}'; at = skip(at)) {
    at = parse_entry(at, h);
    if (!at) return false;
    at = skip(at);
    if (*at == ',') at++;
    else if (*at != '}') return false;
  }
  return h->has_descr && h->has_fortran && h->has_shape && !*skip(at + 1);
}

/* ---- element types ---- */
/* The type that the file's `descr` means, or NULL. '<u2', '|V2' and the like are raw bits for `raw`. */
static const planish_dtype_info *npy_type(const char *descr, const planish_dtype_info *raw, int64_t *file_size) {
  static const char *const names[] = {"bool", "i8",  "u8",  "i16", "u16", "i32", "u32",
                                      "i64",  "u64", "f16", "f32", "f64", "c64", "c128"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const planish_dtype_info *info = planish_dtype_find(names[i]);
    bool same = !strcmp(info->npy + 1, descr + 1) &&
                (descr[0] == info->npy[0] || descr[0] == '=' || (descr[0] == '<' && info->npy[0] == '|'));
    if (!same) continue;
    *file_size = info->dtype.bits / 8;
    if (!raw) return info;
    /* 4-bit types: one element in a byte */
    return (info->dtype.code == 1 && info->dtype.bits == (raw->dtype.bits + 7) / 8 * 8) ? raw : NULL;
  }
  if (raw && (descr[0] == '|' || descr[0] == '<') && descr[1] == 'V' && descr[2] == '0' + (raw->dtype.bits + 7) / 8 &&
      !descr[3]) {
    *file_size = (raw->dtype.bits + 7) / 8;
    return raw;
  }
  return NULL;
}

/* '<U12': the width of texts, or -1. */
static int64_t text_width(const char *descr) {
  if ((descr[0] != '<' && descr[0] != '|') || descr[1] != 'U' || !descr[2]) return -1;
  int64_t width = 0;
  for (const char *at = descr + 2; *at; at++) {
    if (*at < '0' || *at > '9' || width > INT32_MAX / 16) return -1;
    width = width * 10 + (*at - '0');
  }
  return width;
}

static planish_status refuse_type(const char *where, const char *descr, const planish_dtype_info *raw,
                                  planish_message *message) {
  planish_quoted shown;
  if (descr[0] == '>')
    return planish_say(message, PLANISH_INVALID_ARGUMENT,
                       "%s: type: expected little endian, got %s; save a.astype(a.dtype.newbyteorder('<'))", where,
                       planish_quote(&shown, descr));
  if (raw)
    return planish_say(message, PLANISH_INVALID_ARGUMENT,
                       "%s: type: expected the raw bits of %s as an unsigned integer, got %s", where, raw->name,
                       planish_quote(&shown, descr));
  return planish_say(
      message, PLANISH_INVALID_ARGUMENT,
      "%s: type: expected a boolean, integer, floating point or complex type or texts (U), got %s; types that NumPy "
      "lacks are given as unsigned integers under the name x:bf16",
      where, planish_quote(&shown, descr));
}

/* ---- data ---- */
/* Column-major to row-major, into new memory. */
static bool transpose(planish_array *array, size_t size) {
  int64_t index[PLANISH_MAX_RANK] = {0}, stride[PLANISH_MAX_RANK], step = (int64_t)size, from = 0;
  planish_array straight = *array;
  straight.mapped = 0;
  if (!planish_array_allocate(&straight, array->bytes)) return false;
  for (int32_t d = 0; d < array->rank; d++) {
    stride[d] = step;
    step *= array->shape[d];
  }
  for (int64_t to = 0; to < array->bytes; to += (int64_t)size) {
    memcpy((uint8_t *)straight.data + to, (const uint8_t *)array->data + from, size);
    for (int32_t d = array->rank - 1; d >= 0; d--) { /* the next index in row-major order */
      from += stride[d];
      if (++index[d] < array->shape[d]) break;
      from -= stride[d] * array->shape[d];
      index[d] = 0;
    }
  }
  planish_array_release(array);
  *array = straight;
  return true;
}

/* One element of 4 or 2 bits in a byte -> several in a byte, the first in the low bits. In place. */
static void pack_elements(uint8_t *data, int64_t count, int bits) {
  int each = 8 / bits;
  for (int64_t i = 0; i < count; i += each) {
    int byte = 0;
    for (int part = 0; part < each && i + part < count; part++)
      byte |= (data[i + part] & ((1 << bits) - 1)) << (part * bits);
    data[i / each] = (uint8_t)byte;
  }
}

/* Whether data at this place of the file can be used where it is. Real numbers only: others may be indices, which are
 * looked at twice, once to check them, so that nobody else may change them meanwhile. */
static bool is_usable(const planish_array *array, uint64_t place, int64_t file_size) {
  bool real = !array->is_text && (array->dtype.code == 2 || array->dtype.code == 4);
  return real && array->dtype.bits >= 16 && place % (uint64_t)file_size == 0;
}

static planish_status read_data(const planish_source *source, uint64_t offset, const header *h, int64_t file_size,
                                planish_array *array, planish_message *message) {
  planish_quoted shown;
  const char *where = planish_quote(&shown, source->path);
  int64_t count = planish_element_count(h->rank, h->shape), bytes;
  if (count < 0 || __builtin_mul_overflow(count, file_size, &bytes) || (uint64_t)bytes != source->length - offset)
    return planish_say(message, PLANISH_INVALID_ARGUMENT,
                       "%s: length: the header announces %" PRId64 " elements of %" PRId64
                       " bytes, the file has %" PRIu64 " bytes of data; it is cut off or damaged",
                       where, count, file_size, source->length - offset);
  bool turned = h->fortran && h->rank > 1 && bytes; /* bytes: also that file_size is not 0 */
  array->bytes = bytes;
  if (!turned && is_usable(array, source->offset + offset, file_size) && planish_array_map(array, source, offset))
    return PLANISH_OK;
  if (!planish_array_allocate(array, bytes))
    return planish_say(message, PLANISH_OUT_OF_MEMORY, "%s: no memory for %" PRId64 " bytes", where, bytes);
  if (!planish_read_at(source->fd, array->data, (uint64_t)bytes, source->offset + offset))
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: cannot be read: %s", where,
                       errno ? strerror(errno) : "unexpected end");
  if (turned && !transpose(array, (size_t)file_size))
    return planish_say(message, PLANISH_OUT_OF_MEMORY, "%s: out of memory", where);
  if (!array->is_text && array->dtype.bits < 8) {
    pack_elements(array->data, count, array->dtype.bits);
    array->bytes = (count * array->dtype.bits + 7) / 8;
  }
  return PLANISH_OK;
}

/* Read the header; *offset: where the data begins. */
static planish_status read_header(const planish_source *source, header *h, uint64_t *offset, planish_message *message) {
  uint8_t start[12];
  planish_quoted shown;
  const char *where = planish_quote(&shown, source->path);
  uint32_t prefix = 10, length = 0;
  bool good = source->length >= 12 && planish_read_at(source->fd, start, 12, source->offset) &&
              !memcmp(start, "\x93NUMPY", 6) && start[6] >= 1 && start[6] <= 3;
  if (!good)
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: expected a .npy file of NumPy, which this is not",
                       where);
  length = (uint32_t)start[8] | (uint32_t)start[9] << 8;
  if (start[6] > 1) {
    prefix = 12;
    length |= (uint32_t)start[10] << 16 | (uint32_t)start[11] << 24;
  }
  if (length > HEADER_LIMIT || prefix + length > source->length)
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: its header of %u bytes is too long or cut off", where,
                       length);
  char *text = malloc((size_t)length + 1);
  bool parsed = text && planish_read_at(source->fd, text, length, source->offset + prefix);
  if (parsed) {
    text[length] = 0;
    parsed = strlen(text) == length && parse_header(text, h);
  }
  free(text);
  *offset = prefix + length;
  if (parsed) return PLANISH_OK;
  return planish_say(message, PLANISH_INVALID_ARGUMENT,
                     "%s: expected a header with descr (one plain type), fortran_order and shape (at most %d "
                     "dimensions), got something else",
                     where, PLANISH_MAX_RANK);
}

planish_status planish_npy_read(const planish_source *source, const planish_dtype_info *raw, planish_array *array,
                                planish_message *message) {
  header h = {0};
  uint64_t offset = 0;
  planish_quoted shown;
  planish_status status = read_header(source, &h, &offset, message);
  if (status) return status;
  int64_t file_size = 0;
  const planish_dtype_info *type = npy_type(h.descr, raw, &file_size);
  int64_t width = raw ? -1 : text_width(h.descr);
  if (!type && width < 0) return refuse_type(planish_quote(&shown, source->path), h.descr, raw, message);
  if (type) array->dtype = type->dtype;
  array->is_text = !type;
  array->width = type ? 0 : width;
  if (!type) file_size = width * 4;
  array->rank = h.rank;
  memcpy(array->shape, h.shape, sizeof h.shape);
  return read_data(source, offset, &h, file_size, array, message);
}

planish_status planish_npy_load(const char *path, char *name, planish_array *array, planish_message *message) {
  struct stat info;
  planish_quoted shown;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
  if (fd < 0 || fstat(fd, &info)) {
    planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: cannot be opened: %s", planish_quote(&shown, path),
                strerror(errno));
    if (fd >= 0) close(fd);
    return PLANISH_INVALID_ARGUMENT;
  }
  planish_status status;
  if (S_ISREG(info.st_mode)) {
    planish_source source = {fd, path, 0, (uint64_t)info.st_size};
    errno = 0;
    status = planish_npy_read(&source, planish_raw_suffix(name), array, message);
  } else {
    status = planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: expected a regular file", planish_quote(&shown, path));
  }
  close(fd);
  if (status) {
    planish_array_release(array);
    *array = (planish_array){0};
    return status;
  }
  array->name = strdup(name);
  return array->name ? PLANISH_OK : planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
}
