/* SPDX-License-Identifier: BSD-2-Clause */
/* The begin of a TCP connection, for which a name has to be looked up: that may
 * take as long as it likes, so it has a thread of its own.
 */

#ifndef FARPAGE_LOOKUP_H
#define FARPAGE_LOOKUP_H

struct ev_loop;
struct lookup;
struct nbd_handle;

#define LOOKUPS_MAX 64u /* threads of this process */

/* nbd_aio_connect_tcp () of h, which is nobody else's until done () is called,
 * on the loop, with 0 or an errno (EPROTO: libnbd has none) and a text.  Host
 * and port are copied.  EAGAIN: too many, or no thread; ENOMEM.  [loop]
 */
extern int lookup_start (struct ev_loop *ev, struct nbd_handle *h,
                         const char *host, const char *port,
                         void (*done) (void *arg, int error, const char *text),
                         void *arg, struct lookup **lp);
/* Not wanted any more: done () is not called, h is closed, now or when the
 * lookup is over.  [loop]
 */
extern void lookup_leave (struct lookup *l);
/* Threads there are.  Any thread. */
extern unsigned lookup_nr (void);

#endif /* FARPAGE_LOOKUP_H */
