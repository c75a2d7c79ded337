/* SPDX-License-Identifier: BSD-2-Clause */
/* What the relay's tests measure it with: a relay of their own, and both ends
 * of connections through it in one process, so that one clock sees all.
 */

#ifndef FARPAGE_RELAY_RULER_H
#define FARPAGE_RELAY_RULER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "addr.h"

struct ruler {
  pid_t pid;
  FILE *in, *out; /* of the relay */
  char dir[64];
  char answer[1 << 18];
};

/* One link of the relay, and the socket that listens as its target. */
struct ruler_link {
  struct addr at;
  int target;
};

/* Both ends of a connection. */
struct ends {
  int client, server;
};

/* The relay is $RELAY or ./relay.  All here end the process when they fail. */
void ruler_open (struct ruler *r);

/* 0 if the relay ended well and left no file; the tests' links are gone. */
int ruler_close (struct ruler *r);

/* The one of a test program, and cmocka's set-up and teardown of it. */
extern struct ruler ruler;
int ruler_setup (void **state);
int ruler_teardown (void **state);

/* A command, and what came behind "ok". */
__attribute__ ((format (printf, 2, 3))) const char *
ruler_tell (struct ruler *r, const char *format, ...);

/* The first number behind "KEY": in the last answer. */
uint64_t ruler_number (struct ruler *r, const char *key);

/* A link over TCP or Unix sockets. */
void ruler_link (struct ruler *r, const char *name, bool tcp,
                 const char *settings, struct ruler_link *link);
void ruler_unlink (struct ruler_link *link);

/* Connected to it; -1 and errno if not. */
int ruler_connect (const struct ruler_link *link);
int ruler_accept (const struct ruler_link *link);
struct ends ruler_ends (const struct ruler_link *link);
void ends_close (struct ends *e);

/* The barest relay there can be, one way, for messages of BARE_LEN bytes that
 * come in order and begin with the time they were sent at: a thread that reads
 * one, sleeps until delay_us after that time, and sends it on.  What it is late
 * by over sockets of that kind is the machine's doing.
 */
#define BARE_LEN 32
struct bare {
  struct ends ends; /* the test's */
  struct ends own;
  double delay_us;
  unsigned long thread;
};
void bare_open (struct bare *b, bool tcp, double delay_us);
void bare_close (struct bare *b); /* also its ends */

/* All of it, or the process ends. */
void send_all (int fd, const void *bytes, size_t len);
void recv_all (int fd, void *bytes, size_t len);

/* What a read says at the end: 0, or an errno; -1 there was a byte. */
int end_of (int fd);

/* Byte off of stream number; and whether these are they. */
void pattern_fill (unsigned stream, uint64_t off, void *bytes, size_t len);
bool pattern_is (unsigned stream, uint64_t off, const void *bytes, size_t len);

/* Sends len bytes of the pattern in a thread of its own. */
struct sender {
  int fd;
  unsigned stream;
  uint64_t len;
  bool failed; /* the connection broke before */
  unsigned long thread;
};
void sender_start (struct sender *s);
void sender_join (struct sender *s);

/* Reads len bytes of it in a thread of its own. */
struct receiver {
  int fd;
  unsigned stream;
  uint64_t len;
  uint64_t got;
  unsigned long thread;
};
void receiver_start (struct receiver *r);
void receiver_join (struct receiver *r);

/* Reads them until the end or an error: how many, and that they are right.
 * *err: 0 at an end.
 */
uint64_t receive_pattern (int fd, unsigned stream, uint64_t max, int *err);

double now_us (void);
double median (double *values, unsigned nr); /* sorts them */

/* This process before the usual ones, if that is allowed, and the relay, too:
 * ruler_open () passes --realtime on.
 */
void ruler_realtime (void);

#endif /* FARPAGE_RELAY_RULER_H */
