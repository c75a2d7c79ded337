/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of the link: servers, the relay between, and requests that a test
 * makes from its own thread and waits for.
 */

#ifndef FARPAGE_TEST_NET_H
#define FARPAGE_TEST_NET_H

#include <semaphore.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "nbd-link.h"

#define NET_LOG 16384

/* ---- servers ---- */

enum server_kind {
  SERVER_MEMORY,  /* nbdkit memory */
  SERVER_FILE,    /* nbdkit file */
  SERVER_QEMU,    /* qemu-nbd, a file */
  SERVER_NBD,     /* nbd-server, a file */
  SERVER_FARPAGE, /* nbdkit and our plugin, mem: */
  SERVER_DURABLE, /* the same, on a store that is kept */
  SERVER_SCRIPT,  /* nbdkit sh, the script that net_dir () has: slow */
  SERVER_SPARSE,  /* nbdkit sparse-random, a tenth of it data */
  SERVER_KINDS
};

extern const char *const server_names[SERVER_KINDS];

struct server {
  enum server_kind kind;
  pid_t pid;
  char socket[128];
  const char *filter; /* of nbdkit, or A+B, with their parameters; or NULL */
  const char *psk;    /* of nbdkit: it wants TLS with these keys; or NULL */
  const char *certificates; /* or with those of this folder, and a client's */
  uint64_t size;
};

/* nbdkit has one thread a connection.  With more, 1.32.5 aborts when a client
 * goes away while several of its requests are under way ("raw_send_socket:
 * Assertion `sock >= 0' failed"), which is not what a test of loss looks for.
 */
extern bool net_serial;

/* Of a program of cases: a folder for it, and its end. */
extern int net_group_setup (void **state);
extern int net_group_teardown (void **state);
extern const char *net_dir (void);
/* What main ends with: the cases that FARPAGE_TEST names, or all. */
#define NET_RUN(tests)                               \
  (cmocka_set_test_filter (getenv ("FARPAGE_TEST")), \
   cmocka_run_group_tests (tests, net_group_setup, net_group_teardown))

/* False: it cannot run here. */
extern bool server_start (struct server *s, enum server_kind kind,
                          uint64_t size, const char *filter);
/* nbdkit memory, which wants TLS with a key of this file. */
extern bool server_start_tls (struct server *s, uint64_t size, const char *psk);
/* The same, with a client's certificate of the authority in this folder. */
extern bool server_start_certificates (struct server *s, uint64_t size,
                                       const char *folder);
extern void server_kill (struct server *s);
/* As it was: the same socket, the same file.  It dies with the thread that
 * starts it.
 */
extern void server_restart (struct server *s);
extern bool server_try_restart (struct server *s);
extern void server_uri (const struct server *s, char *uri, size_t len);

/* ---- relay ---- */

struct relay {
  pid_t pid;
  int to, from;
  char at[128]; /* its socket, or its port */
  bool tcp;
};

/* It was built (make -C tests/relay check). */
extern bool relay_is_there (void);
/* Between a socket that it makes and the server's. */
extern void relay_start (struct relay *r, const struct server *s, bool tcp,
                         const char *options);
/* A command, which must be obeyed; its answer without "ok ". */
extern const char *relay_tell (struct relay *r, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));
extern void relay_stop (struct relay *r);
extern void relay_uri (const struct relay *r, const char *name, char *uri,
                       size_t len);

/* ---- requests ---- */

struct io {
  struct request req; /* first */
  struct link *link;
  sem_t done;
  uint64_t begin_us, end_us;
  bool fua;
  int (*elsewhere) (struct request *req); /* NULL: as place says */
  bool has_place;    /* place is what elsewhere gives, else EIO */
  uint64_t place;    /* bytes */
  atomic_uint asked; /* elsewhere was */
};

extern uint64_t net_now_us (void);
extern void net_sleep_ms (unsigned ms);
/* Makes and submits; data may be NULL. */
extern void io_start (struct io *io, struct link *l, enum request_kind kind,
                      enum request_pool pool, uint64_t off, void *data,
                      size_t len);
/* Its error. */
extern int io_wait (struct io *io);
/* Within ms; -1: not. */
extern int io_wait_ms (struct io *io, unsigned ms);
extern int io_do (struct link *l, enum request_kind kind,
                  enum request_pool pool, uint64_t off, void *data, size_t len);
extern void net_stat (struct link *l, struct link_stat *st);
/* link_check () on the loop; fails the test. */
extern void net_check (struct link *l);
/* Until so many connections are up; fails after 5 s. */
extern void net_wait_up (struct link *l, unsigned nr);
extern void net_fill (uint8_t *data, size_t len, uint64_t seed);

/* Messages since the last call of this. */
extern bool net_said (const char *part);
extern void net_forget (void);

#endif /* FARPAGE_TEST_NET_H */
