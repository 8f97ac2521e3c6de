// Java 11 or later, without a library: java Client.java
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;

public class Client {
    static final String URL = "http://127.0.0.1:8000/imagenet/ImageClassification";
    static final String IMAGE = "photo.jpg";
    static final int TOP_NUM = 5;
    static final String TOKEN = "";

    public static void main(String[] arguments) throws Exception {
        String image = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(IMAGE)));
        String body = "{\"image\":\"" + image + "\",\"top_num\":" + TOP_NUM + "}";
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL))
            .version(HttpClient.Version.HTTP_1_1)
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer " + TOKEN)
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> response =
            HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        // A result has results, an error has error_code; read it with your JSON library.
        System.out.println(response.body());
    }
}
