import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A cache client in Java 17, standard library only: time limits, retries that apply once, compare-and-set, fallback.
 *
 * <pre>
 * java Cache.java add cart-7 book      append to a list that other processes append to as well
 * java Cache.java count visits         count up exactly once, however often the request is sent
 * java Cache.java read price-7         read, and go to the source when the cache can't answer
 * </pre>
 */
public final class Cache {
    /** One request; the sidecar is on this host, so a longer wait means trouble. */
    private static final Duration ATTEMPT = Duration.ofSeconds(1);
    /** One operation with all its retries; shorter than what the user of the app waits for. */
    private static final Duration BUDGET = Duration.ofSeconds(3);
    /** Reads and writes of one compare-and-set loop. */
    private static final int CAS_TRIES = 100;
    private static final Pattern RETRY_AFTER = Pattern.compile("\"retryAfterMs\":(\\d{1,6})");

    /** The cache did not answer within the budget. A write may or may not have been applied. */
    public static final class Unavailable extends RuntimeException {
        Unavailable(String why) {
            super(why);
        }
    }

    /** A value and its version; both null when there is none. */
    public record Entry(String value, String version) {}

    private final String base;
    private final HttpClient client =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(ATTEMPT).build();

    public Cache(String url, String name) {
        base = url + "/v1/caches/" + name + "/entries/";
    }

    /** Sends until there is an answer that is not worth a retry; every attempt carries the same idempotency key. */
    private HttpResponse<String> request(String method, String key, String suffix, String body, Map<String, String> fields) {
        String path = URLEncoder.encode(key, StandardCharsets.UTF_8).replace("+", "%20") + suffix;
        var content = body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body);
        var request = HttpRequest.newBuilder(URI.create(base + path)).timeout(ATTEMPT).method(method, content);
        fields.forEach(request::setHeader);
        if (!method.equals("GET")) {
            request.setHeader("Idempotency-Key", uuid7());
        }
        long ends = System.nanoTime() + BUDGET.toNanos();
        for (long wait = 20; ; wait = Math.min(2 * wait, 500)) {
            String error;
            long after = 0;
            try {
                HttpResponse<String> answer = client.send(request.build(), BodyHandlers.ofString());
                if (answer.statusCode() < 500 && answer.statusCode() != 429) {
                    return answer;
                }
                error = answer.body();
                // A real app has a JSON library for this.
                if (!error.contains("\"retryable\":true")) {
                    throw new Unavailable(error);
                }
                Matcher told = RETRY_AFTER.matcher(error);
                after = told.find() ? Long.parseLong(told.group(1)) : 0;
            } catch (IOException broken) { // refused, reset, no answer in time
                error = broken.toString();
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw new Unavailable("interrupted");
            }
            // Full jitter, so that many clients don't come back at one time.
            long pause = Math.max(after, ThreadLocalRandom.current().nextLong(wait));
            if (System.nanoTime() + pause * 1_000_000 >= ends) {
                throw new Unavailable(error);
            }
            try {
                Thread.sleep(pause);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw new Unavailable("interrupted");
            }
        }
    }

    public Entry get(String key) {
        var answer = request("GET", key, "", null, Map.of());
        if (answer.statusCode() == 404) {
            return new Entry(null, null);
        }
        expect(answer, 200);
        return new Entry(answer.body(), answer.headers().firstValue("ETag").orElseThrow());
    }

    /** Sets the key to change(value): decided at the key's primary, so no other writer's change is lost. */
    public void update(String key, String ttl, UnaryOperator<String> change) {
        for (int i = 0; i < CAS_TRIES; i++) {
            Entry present = get(key);
            Map<String, String> condition =
                    present.version() == null ? Map.of("If-None-Match", "*") : Map.of("If-Match", present.version());
            var answer = request("PUT", key, "?ttl=" + ttl, change.apply(present.value()), condition);
            if (answer.statusCode() != 412) { // 412: another writer came first; read again
                expect(answer, 201, 204);
                return;
            }
        }
        throw new IllegalStateException(key + ": other writers were faster every time");
    }

    public long increment(String key, long by) {
        var answer = request("POST", key, "/increment?by=" + by, null, Map.of());
        expect(answer, 200);
        return Long.parseLong(answer.body());
    }

    /** Reads through: the app goes on without the cache, only slower. */
    public String getOr(String key, Supplier<String> source) {
        try {
            String value = get(key).value();
            if (value != null) {
                return value;
            }
        } catch (Unavailable why) {
            System.err.println("without the cache: " + why.getMessage());
            return source.get();
        }
        String value = source.get();
        try {
            request("PUT", key, "?ttl=30s", value, Map.of());
        } catch (Unavailable why) {
            System.err.println("not cached: " + why.getMessage());
        }
        return value;
    }

    private static void expect(HttpResponse<String> answer, int... wanted) {
        for (int status : wanted) {
            if (answer.statusCode() == status) {
                return;
            }
        }
        throw new IllegalStateException(answer.statusCode() + ": " + answer.body());
    }

    /** RFC 9562, version 7: its time tells the cache how old a retry is. */
    private static String uuid7() {
        var random = ThreadLocalRandom.current();
        long high = System.currentTimeMillis() << 16 | 0x7000 | random.nextLong(0x1000);
        long low = random.nextLong() >>> 2 | 1L << 63;
        return new java.util.UUID(high, low).toString();
    }

    public static void main(String[] arguments) {
        var environment = System.getenv();
        var cache = new Cache(
                environment.getOrDefault("SIDEGRID_URL", "http://127.0.0.1:7080"),
                environment.getOrDefault("CACHE", "default"));
        switch (arguments.length > 1 ? arguments[0] : "") {
            case "add" -> cache.update(arguments[1], "30m", list -> append(list, arguments[2]));
            case "count" -> System.out.println(cache.increment(arguments[1], 1));
            case "read" -> System.out.println(cache.getOr(arguments[1], () -> "from the source"));
            default -> {
                System.err.println("usage: add KEY ITEM | count KEY | read KEY");
                System.exit(64);
            }
        }
    }

    /** Appends to a list in JSON; items here have nothing to escape. */
    private static String append(String list, String item) {
        String head = list == null || list.equals("[]") ? "[" : list.substring(0, list.lastIndexOf(']')) + ",";
        return head + '"' + item + "\"]";
    }
}
