/* SPDX-License-Identifier: BSD-2-Clause */
/* For test-library.sh: C and C++ that knows nothing but the header. */

#include <farpage.h>

#include <errno.h>
#include <stdio.h>

int
main (void)
{
  struct farpage_options options;
  struct farpage_link *link = NULL;
  int err;

  farpage_options_init (&options);
  err = farpage_link_open ("http://nowhere/", &options, &link);
  printf ("%s\n", farpage_version ());
  return err == EINVAL && link == NULL && options.cluster_pages == 16 ? 0 : 1;
}
