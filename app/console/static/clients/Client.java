// Java 11 or later, without a library: java Client.java
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Base64;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    static final String URL = "http://127.0.0.1:8000/imagenet/ImageClassification";
    static final String IMAGE = "photo.jpg";
    static final int TOP_NUM = 5;
    static final String TOKEN = "";
    static final String CA = "";  // PEM file of your own certificate authority

    public static void main(String[] arguments) throws Exception {
        String image = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(IMAGE)));
        String body = "{\"image\":\"" + image + "\",\"top_num\":" + TOP_NUM + "}";
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL))
            .version(HttpClient.Version.HTTP_1_1)
            .timeout(Duration.ofMinutes(1))
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer " + TOKEN)
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpClient client = HttpClient.newBuilder().sslContext(trust()).build();
        HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (header(response, "X-Error-Code").equals("336100")) {
            Thread.sleep(1000 * Long.parseLong(header(response, "Retry-After")));
            response = client.send(request, HttpResponse.BodyHandlers.ofString());
        }
        // A result has results, an error has error_code; read it with your JSON library.
        if (!response.body().contains("\"results\":")) {
            System.err.println(response.body() + " " + header(response, "X-Error-Detail"));
            System.exit(1);
        }
        System.out.println(response.body());
    }

    static String header(HttpResponse<?> response, String name) {
        return response.headers().firstValue(name).orElse("");
    }

    static SSLContext trust() throws Exception {
        if (CA.isEmpty()) {
            return SSLContext.getDefault();
        }
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(Path.of(CA))) {
            CertificateFactory x509 = CertificateFactory.getInstance("X.509");
            for (Certificate one : x509.generateCertificates(file)) {
                store.setCertificateEntry("ca" + store.size(), one);
            }
        }
        String algorithm = TrustManagerFactory.getDefaultAlgorithm();
        TrustManagerFactory managers = TrustManagerFactory.getInstance(algorithm);
        managers.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }
}
