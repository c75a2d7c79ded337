/* SPDX-License-Identifier: BSD-2-Clause */
/* A server that says what a test wants, right or wrong, on a Unix socket. */

#ifndef FARPAGE_FAKE_NBD_H
#define FARPAGE_FAKE_NBD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_CONNS 64u
#define FAKE_FLAGS 0x16d /* flush, FUA, trim, zeroes, several connections */

enum fake_act {
  FAKE_ANSWER,
  FAKE_ERROR,      /* value: of the reply */
  FAKE_SILENT,     /* does it, and never says so */
  FAKE_HOLD,       /* until fake_release (), then as it should */
  FAKE_BAD_COOKIE, /* an answer to something that nobody asked for */
  FAKE_BAD_MAGIC,
  FAKE_CLOSE, /* instead of an answer */
  FAKE_HALF,  /* half of an answer, then the end */
  FAKE_PARTS  /* of a read, in chunks: value is of enum fake_parts */
};

/* Pieces of a read, in the order in which they are sent; then it is done. */
enum fake_parts {
  FAKE_PARTS_NONE,
  FAKE_PARTS_FIRST,
  FAKE_PARTS_SECOND,
  FAKE_PARTS_FIRST_TWICE,
  FAKE_PARTS_ALL_AND_FIRST, /* the first half twice, then the second */
  FAKE_PARTS_BOTH,
  FAKE_PARTS_TURNED, /* all of it, the second half first */
  FAKE_PARTS_COMB_8, /* all of it, 8 pieces that do not touch first */
  FAKE_PARTS_COMB_9
};

enum fake_kind {
  FAKE_READ,
  FAKE_WRITE,
  FAKE_DISC,
  FAKE_FLUSH,
  FAKE_TRIM,
  FAKE_CACHE,
  FAKE_ZERO,
  FAKE_STATUS,
  FAKE_KINDS
};

struct fake_rule {
  enum fake_act act;
  uint32_t value;
  unsigned after; /* so many are answered well before */
  unsigned times; /* then the rule, so often; 0: from then on */
};

struct fake {
  char path[100];
  uint64_t size;
  uint16_t flags;
  uint32_t block[3];       /* smallest, preferred, largest; all 0: not told */
  const char *description; /* or NULL */
  /* The answer to a status: lengths and flags.  0: it has no such thing. */
  unsigned nr_extents;
  uint32_t extents[16];
  uint32_t refuse; /* the answer to NBD_OPT_GO; 0: it may */
  uint8_t *data;
  uint64_t data_bytes;
  struct fake_rule rule[FAKE_KINDS];
  /* Reads, writes and zeros that touch these bytes fail with that. */
  uint64_t bad, bad_end;
  uint32_t bad_error;
  unsigned nr[FAKE_KINDS];     /* that came */
  unsigned writes_before_read; /* that came, at the last read */
  unsigned nr_accepted, nr_refused;
  char name[512]; /* of the export, as it was asked for last */
  bool refusing;  /* no one is let in */
  /* Its own. */
  pthread_mutex_t mutex; /* of all of the above, once it runs */
  pthread_cond_t cond;
  int listener;
  bool released;
  pthread_t acceptor, threads[FAKE_CONNS];
  int fds[FAKE_CONNS];
};

/* size and what else differs are set after fake_init (); then it begins. */
extern void fake_init (struct fake *f, const char *path);
extern void fake_begin (struct fake *f);
extern void fake_end (struct fake *f);
/* A rule for what comes from now on. */
extern void fake_rule (struct fake *f, enum fake_kind kind, enum fake_act act,
                       uint32_t value, unsigned after, unsigned times);
extern void fake_bad (struct fake *f, uint64_t from, uint64_t end,
                      uint32_t error);
extern void fake_release (struct fake *f);
/* Closes what is connected. */
extern void fake_cut (struct fake *f);
extern void fake_refuse (struct fake *f, bool yes);
extern unsigned fake_count (struct fake *f, enum fake_kind kind);

#endif /* FARPAGE_FAKE_NBD_H */
