/* SPDX-License-Identifier: BSD-2-Clause */
/* The swap pager against a plain model: see test-swap-model.c. */

#ifndef FARPAGE_TEST_SWAP_MODEL_H
#define FARPAGE_TEST_SWAP_MODEL_H

#include "test-net.h"

struct model_plan {
  enum server_kind kind;
  uint64_t size;        /* bytes of the export */
  uint64_t nr_ops;      /* at least */
  const char *filter;   /* of nbdkit, with its parameters; or NULL */
  unsigned nr_restarts; /* meanwhile: the server is killed and started again */
  bool forgets;         /* and then it has nothing of what it had */
};

/* Skips the test where the server cannot run. */
extern void model_run (const struct model_plan *plan);
/* FARPAGE_RANDOM_OPS, if that is set. */
extern uint64_t model_ops (uint64_t otherwise);

#endif /* FARPAGE_TEST_SWAP_MODEL_H */
