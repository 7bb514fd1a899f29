/* NonMaxSuppression, as ONNX's operator of opset 10 and 11: per batch and class, boxes by falling score, those dropped that
 * overlap a chosen one by more than a threshold. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

typedef struct nms {
  const float *boxes, *scores; /* of this batch, of this class */
  int64_t n, most;
  float iou, score;
  bool centers, any_score;
  int64_t *order, *room; /* n each */
} nms;

typedef struct box {
  float y0, x0, y1, x1;
} box;

static box corners(const nms *s, int64_t index) {
  const float *b = s->boxes + index * 4;
  if (s->centers) { /* x, y, width, height */
    float half_width = b[2] / 2, half_height = b[3] / 2;
    return (box){b[1] - half_height, b[0] - half_width, b[1] + half_height, b[0] + half_width};
  }
  return (box){b[0] < b[2] ? b[0] : b[2], b[1] < b[3] ? b[1] : b[3], b[0] < b[2] ? b[2] : b[0],
               b[1] < b[3] ? b[3] : b[1]};
}

static bool overlap(const nms *s, int64_t one, int64_t other) {
  box a = corners(s, one), b = corners(s, other);
  float height = (a.y1 < b.y1 ? a.y1 : b.y1) - (a.y0 > b.y0 ? a.y0 : b.y0);
  float width = (a.x1 < b.x1 ? a.x1 : b.x1) - (a.x0 > b.x0 ? a.x0 : b.x0);
  if (!(height > 0) || !(width > 0)) return false;
  float common = height * width;
  float area = (a.y1 - a.y0) * (a.x1 - a.x0), rest = (b.y1 - b.y0) * (b.x1 - b.x0);
  if (!(area > 0) || !(rest > 0)) return false;
  return common / (area + rest - common) > s->iou;
}

/* Merge sort by falling score, equal ones by number. */
static void sort(const nms *s, int64_t count) {
  for (int64_t width = 1; width < count; width *= 2)
    for (int64_t start = 0; start < count; start += 2 * width) {
      int64_t middle = start + width < count ? start + width : count,
              end = middle + width < count ? middle + width : count;
      int64_t a = start, b = middle;
      for (int64_t i = start; i < end; i++) {
        bool first = a < middle && (b >= end || s->scores[s->order[a]] >= s->scores[s->order[b]]);
        s->room[i] = first ? s->order[a++] : s->order[b++];
      }
      memcpy(s->order + start, s->room + start, (size_t)(end - start) * sizeof *s->order);
    }
}

/* The numbers of the chosen boxes, at the front of `order`; -1 when the run must end. */
static int64_t choose(planish_host *host, const nms *s) {
  int64_t count = 0, chosen = 0;
  for (int64_t i = 0; i < s->n; i++)
    if (s->any_score ? s->scores[i] == s->scores[i] : s->scores[i] > s->score) s->order[count++] = i;
  sort(s, count);
  for (int64_t i = 0; i < count && chosen < s->most; i++) {
    bool free_of_others = true;
    for (int64_t k = 0; k < chosen && free_of_others; k++) {
      if (planish_host_tick(host)) return -1;
      free_of_others = !overlap(s, s->order[i], s->order[k]);
    }
    if (free_of_others) s->order[chosen++] = s->order[i];
  }
  return chosen;
}

typedef struct found {
  int64_t *rows, count, room;
} found;

static planish_status keep(planish_host *host, found *f, int64_t batch, int64_t class, const int64_t *boxes,
                           int64_t count) {
  if (f->count + count > f->room) {
    int64_t room = (f->count + count) * 2;
    int64_t *rows = room < INT64_MAX / 24 ? realloc(f->rows, (size_t)room * 3 * sizeof *rows) : NULL;
    if (!rows) return planish_host_no_memory(host);
    f->rows = rows;
    f->room = room;
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t *row = f->rows + 3 * f->count++;
    row[0] = batch, row[1] = class, row[2] = boxes[i];
  }
  return PLANISH_OK;
}

static planish_status choose_all(planish_host *host, nms *s, const planish_object *boxes, const planish_object *scores,
                                 found *f) {
  planish_status status = PLANISH_OK;
  for (int64_t b = 0; b < scores->shape[0] && !status; b++)
    for (int64_t c = 0; c < scores->shape[1] && !status; c++) {
      s->boxes = (const float *)boxes->data + b * s->n * 4;
      s->scores = (const float *)scores->data + (b * scores->shape[1] + c) * s->n;
      int64_t count = choose(host, s);
      status = count < 0 ? PLANISH_CANCELLED : keep(host, f, b, c, s->order, count);
    }
  return status;
}

static bool read_float(planish_host *host, planish_object *const *in, uint32_t index, float *value) {
  const planish_object *x = planish_tensor_operand(host, in, index, "f32");
  if (x && x->count == 1) return memcpy(value, x->data, sizeof *value), true;
  if (x) planish_host_fail(host, PLANISH_FAILED, "operand %u: expected one number", index);
  return false;
}

PLANISH_HOST_FUNCTION(nms) {
  const planish_object *boxes = planish_tensor_operand(host, in, 0, "f32"),
                       *scores = boxes ? planish_tensor_operand(host, in, 1, "f32") : NULL;
  nms s = {.centers = planish_int_attribute(step, "center_point_box", 0) != 0,
           .any_score = !planish_maybe(step, in, 4)};
  found f = {NULL, 0, 0};
  if (!scores) return PLANISH_FAILED;
  bool fits = boxes->rank == 3 && scores->rank == 3 && boxes->shape[2] == 4 && boxes->shape[0] == scores->shape[0] &&
              boxes->shape[1] == scores->shape[2];
  if (!fits) return planish_host_fail(host, PLANISH_FAILED, "expected boxes [b,n,4] and scores [b,c,n]");
  if (planish_maybe(step, in, 2) && !planish_integer(host, in, 2, &s.most)) return PLANISH_FAILED;
  if (planish_maybe(step, in, 3) && !read_float(host, in, 3, &s.iou)) return PLANISH_FAILED;
  if (!s.any_score && !read_float(host, in, 4, &s.score)) return PLANISH_FAILED;
  if (!(s.iou >= 0 && s.iou <= 1))
    return planish_host_fail(host, PLANISH_FAILED, "iou_threshold: expected 0 to 1, got %g", (double)s.iou);
  s.n = boxes->shape[1];
  s.order = s.n < INT64_MAX / 32 ? planish_host_alloc(host, 2 * s.n, sizeof *s.order) : NULL;
  if (!s.order) return planish_host_no_memory(host);
  s.room = s.order + s.n;
  planish_status status = s.most > 0 && scores->count ? choose_all(host, &s, boxes, scores, &f) : PLANISH_OK;
  if (!status) {
    int64_t shape[2] = {f.count, 3};
    out[0] = planish_host_tensor(host, "i64", 2, shape);
    if (!out[0]) status = PLANISH_OUT_OF_MEMORY;
    else if (f.count) memcpy(out[0]->data, f.rows, (size_t)f.count * 3 * sizeof *f.rows);
  }
  free(s.order);
  free(f.rows);
  return status;
}
