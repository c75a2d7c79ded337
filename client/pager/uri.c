/* SPDX-License-Identifier: BSD-2-Clause */
/* NBD URIs.
 *
 *   nbd[s]://[USER@]HOST[:PORT][/NAME]
 *   nbd[s]+unix://[USER@]/[NAME]?socket=PATH
 *
 * Nothing else: no other scheme, for a URI may come from a configuration that
 * somebody else wrote, and no other parameter, for what says how to trust the
 * server comes by the options.  Parsed here and not by libnbd, which takes more
 * forms than these, among them files to read.  USER, NAME and PATH may be
 * percent-encoded.  Called by link_open (); calls nobody.
 */

#include <config.h>

#include "uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int
digit (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* [from, to) without its escapes; NULL and *why, or NULL alone: no memory. */
static char *
decode (const char *from, const char *to, const char **why)
{
  char *text = malloc (to - from + 1), *p = text;

  if (text == NULL)
    return NULL;
  for (; from < to; from++) {
    int c = (unsigned char) *from;

    if (c == '%') {
      int high = to - from > 2 ? digit (from[1]) : -1;
      int low = high >= 0 ? digit (from[2]) : -1;

      c = low >= 0 ? high * 16 + low : 0;
      from += 2;
    }
    if (c == 0) {
      *why = "a % is not followed by two hex digits of a byte above 0";
      free (text);
      return NULL;
    }
    *p++ = (char) c;
  }
  *p = '\0';
  return text;
}

static bool
is_port (const char *from, const char *to)
{
  unsigned n = 0;

  if (from == to || to - from > 5)
    return false;
  for (; from < to; from++) {
    if (*from < '0' || *from > '9')
      return false;
    n = n * 10 + (*from - '0');
  }
  return n >= 1 && n <= 65535;
}

static bool
is_host (const char *from, const char *to)
{
  if (from == to || to - from > 255)
    return false;
  for (; from < to; from++)
    if (strchr ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                "0123456789.-_:",
                *from) == NULL)
      return false;
  return true;
}

/* HOST[:PORT] or [HOST]:PORT, the latter for IPv6. */
static const char *
parse_host (struct uri *u, const char *from, const char *to)
{
  const char *end, *colon;
  bool bracket = from < to && *from == '[';

  from += bracket;
  end = from < to ? memchr (from, bracket ? ']' : ':', (size_t) (to - from))
                  : NULL;
  if (end == NULL && bracket)
    return "the ] after the host is missing";
  if (end == NULL)
    end = to;
  if (!is_host (from, end))
    return "the host is missing, or not one";
  colon = end + bracket;
  if (colon < to && (*colon != ':' || !is_port (colon + 1, to)))
    return "the port is not 1 to 65535";
  u->host = strndup (from, end - from);
  u->port = colon < to ? strndup (colon + 1, to - colon - 1) : strdup ("10809");
  return NULL;
}

static const char *
parse_authority (struct uri *u, bool is_unix, const char *from, const char *to)
{
  const char *why = NULL, *at = memchr (from, '@', to - from);

  if (at != NULL) {
    if (!u->tls)
      return "a user is for nbds and nbds+unix";
    u->user = decode (from, at, &why);
    if (u->user == NULL)
      return why;
    from = at + 1;
  }
  if (is_unix)
    return from == to ? NULL : "nbd+unix is followed by :/// and no host";
  return parse_host (u, from, to);
}

static const char *
parse_query (struct uri *u, bool is_unix, const char *query)
{
  const char *why = NULL;

  if (!is_unix)
    return *query == '\0' ? NULL : "TCP has no parameters";
  if (strncmp (query, "?socket=", 8) != 0 || strchr (query, '&') != NULL)
    return "nbd+unix has one parameter, ?socket=PATH";
  u->socket = decode (query + 8, query + strlen (query), &why);
  if (u->socket == NULL)
    return why;
  if (*u->socket == '\0' ||
      strlen (u->socket) >= sizeof ((struct sockaddr_un *) 0)->sun_path)
    return "the socket's path is empty or too long";
  return NULL;
}

static const char *
parse (const char *text, struct uri *u)
{
  static const struct {
    const char *scheme;
    bool tls, is_unix;
  } schemes[] = { { "nbd://", false, false },
                  { "nbds://", true, false },
                  { "nbd+unix://", false, true },
                  { "nbds+unix://", true, true } };
  const char *why = NULL, *path, *query;
  unsigned i;

  for (i = 0; i < 4; i++)
    if (strncmp (text, schemes[i].scheme, strlen (schemes[i].scheme)) == 0)
      break;
  if (i == 4)
    return "the scheme is none of nbd, nbds, nbd+unix, nbds+unix";
  if (strchr (text, '#') != NULL)
    return "there is a fragment";
  text += strlen (schemes[i].scheme);
  path = text + strcspn (text, "/?");
  query = path + strcspn (path, "?");
  u->tls = schemes[i].tls;
  why = parse_authority (u, schemes[i].is_unix, text, path);
  if (why != NULL)
    return why;
  u->name = decode (path + (*path == '/'), query, &why);
  if (u->name != NULL && strlen (u->name) > URI_NAME_MAX)
    return "the export's name is longer than 4096 bytes";
  if (why != NULL)
    return why;
  return parse_query (u, schemes[i].is_unix, query);
}

int
uri_parse (const char *text, struct uri *u, const char **why)
{
  struct uri new = { 0 };

  *why = parse (text, &new);
  if (*why != NULL) {
    uri_free (&new);
    return EINVAL;
  }
  if (new.name == NULL || (new.socket == NULL &&new.host == NULL) ||
      (new.host != NULL &&new.port == NULL)) {
    uri_free (&new);
    return ENOMEM;
  }
  *u = new;
  return 0;
}

void
uri_free (struct uri *u)
{
  free (u->host);
  free (u->port);
  free (u->socket);
  free (u->user);
  free (u->name);
  *u = (struct uri){ 0 };
}
