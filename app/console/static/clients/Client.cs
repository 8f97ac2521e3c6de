// .NET or Mono, without a package.
using System;
using System.IO;
using System.Net.Http;
using System.Text;

public static class Client
{
    const string Url = "http://127.0.0.1:8000/imagenet/ImageClassification";
    const string Image = "photo.jpg";
    const int TopNum = 5;
    const string Token = "";

    public static void Main()
    {
        string image = Convert.ToBase64String(File.ReadAllBytes(Image));
        string body = "{\"image\":\"" + image + "\",\"top_num\":" + TopNum + "}";
        using (var client = new HttpClient())
        {
            client.DefaultRequestHeaders.TryAddWithoutValidation("Authorization", "Bearer " + Token);
            var content = new StringContent(body, Encoding.UTF8, "application/json");
            HttpResponseMessage response = client.PostAsync(Url, content).Result;
            // A result has results, an error has error_code; read it with your JSON library.
            Console.WriteLine(response.Content.ReadAsStringAsync().Result);
        }
    }
}
