/*
 * Times one unary call against the HTTP request it stands for: GetSandbox through sandboxd, and the
 * same question put straight to E2B's API. Turn by turn in one thread, each on one warm connection,
 * so that whatever the machine does meets both. Prints the medians in microseconds. Run by
 * bench.py.
 */
#include "client/include/sandbox.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 200 };

static size_t discard(char *data, size_t size, size_t n, void *arg)
{
    return size * n;
}

static bool get_over_grpc(struct sandbox_client *client, const char *sandbox_id)
{
    Sandbox__V1__GetSandboxRequest request = SANDBOX__V1__GET_SANDBOX_REQUEST__INIT;
    Sandbox__V1__GetSandboxResponse *response;
    struct sandbox_error err;

    request.sandbox_id = (char *)sandbox_id;
    if (!sandbox_get(client, &request, &response, &err)) {
        fprintf(stderr, "unary: %s\n", err.message);
        return false;
    }
    sandbox_free(response);
    return true;
}

static bool get_over_http(CURL *curl)
{
    CURLcode result = curl_easy_perform(curl);
    long code = 0;

    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (result == CURLE_OK && code == 200)
        return true;
    fprintf(stderr, "unary: HTTP %ld: %s\n", code, curl_easy_strerror(result));
    return false;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double median_us(int64_t *times, size_t n)
{
    qsort(times, n, sizeof(*times), by_value);
    return (double)times[n / 2] / 1e3;
}

static bool measure(struct sandbox_client *client, CURL *curl, const char *sandbox_id, size_t n)
{
    AUTO_FREE int64_t *grpc_ns = xcalloc(n, sizeof(*grpc_ns));
    AUTO_FREE int64_t *http_ns = xcalloc(n, sizeof(*http_ns));

    for (size_t i = 0; i < n + WARM_UP; i++) {
        int64_t begin = clock_monotonic_ns();

        if (!get_over_grpc(client, sandbox_id))
            return false;

        int64_t middle = clock_monotonic_ns();

        if (!get_over_http(curl))
            return false;
        if (i >= WARM_UP) {
            grpc_ns[i - WARM_UP] = middle - begin;
            http_ns[i - WARM_UP] = clock_monotonic_ns() - middle;
        }
    }
    printf("%.1f %.1f\n", median_us(grpc_ns, n), median_us(http_ns, n));
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: unary SANDBOXD E2B_URL API_KEY SANDBOX_ID CALLS\n");
        return 2;
    }

    struct sandbox_error err;
    struct sandbox_client *client =
        sandbox_client_new(&(struct sandbox_client_options){.addresses = argv[1]}, &err);
    CURL *curl = curl_easy_init();
    AUTO_FREE char *url = xasprintf("%s/sandboxes/%s", argv[2], argv[4]);
    AUTO_FREE char *key = xasprintf("X-API-KEY: %s", argv[3]);
    struct curl_slist *headers = curl_slist_append(NULL, key);
    long calls = strtol(argv[5], NULL, 10);

    if (client == NULL || curl == NULL || calls < 1)
        return 1;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);

    bool ok = measure(client, curl, argv[4], (size_t)calls);

    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    sandbox_client_free(client);
    return ok ? 0 : 1;
}
