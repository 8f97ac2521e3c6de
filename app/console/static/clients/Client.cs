// .NET or Mono, without a package.
using System;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading;

public static class Client
{
    const string Url = "http://127.0.0.1:8000/imagenet/ImageClassification";
    const string Image = "photo.jpg";
    const int TopNum = 5;
    const string Token = "";
    const string Ca = "";  // PEM file of your own certificate authority

    public static int Main()
    {
        try
        {
            return Classify();
        }
        catch (Exception error)
        {
            Console.Error.WriteLine(error.GetBaseException().Message);
            return 1;
        }
    }

    static int Classify()
    {
        string image = Convert.ToBase64String(File.ReadAllBytes(Image));
        string body = "{\"image\":\"" + image + "\",\"top_num\":" + TopNum + "}";
        using (var handler = new HttpClientHandler())
        using (var client = new HttpClient(handler))
        {
            if (Ca != "")
            {
                handler.ServerCertificateCustomValidationCallback = IsTrusted;
            }
            client.DefaultRequestHeaders.TryAddWithoutValidation("Authorization", "Bearer " + Token);
            HttpResponseMessage response = Post(client, body);
            if (Header(response, "X-Error-Code") == "336100")
            {
                Thread.Sleep(1000 * int.Parse(Header(response, "Retry-After")));
                response = Post(client, body);
            }
            // A result has results, an error has error_code; read it with your JSON library.
            string answer = response.Content.ReadAsStringAsync().Result;
            if (!answer.Contains("\"results\":"))
            {
                Console.Error.WriteLine(answer + " " + Header(response, "X-Error-Detail"));
                return 1;
            }
            Console.WriteLine(answer);
            return 0;
        }
    }

    static HttpResponseMessage Post(HttpClient client, string body)
    {
        var content = new StringContent(body, Encoding.UTF8, "application/json");
        return client.PostAsync(Url, content).Result;
    }

    static string Header(HttpResponseMessage response, string name)
    {
        return response.Headers.Where(header => header.Key == name)
            .SelectMany(header => header.Value).FirstOrDefault() ?? "";
    }

    static bool IsTrusted(
        HttpRequestMessage request, X509Certificate2 own, X509Chain given, SslPolicyErrors errors)
    {
        // .NET reports a wrong host name here; Mono does not check it.
        if ((errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != SslPolicyErrors.None)
        {
            return false;
        }
        var authority = new X509Certificate2(Ca);
        var chain = new X509Chain();
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
        chain.ChainPolicy.ExtraStore.Add(authority);
        return chain.Build(own) && chain.ChainElements[chain.ChainElements.Count - 1]
            .Certificate.RawData.SequenceEqual(authority.RawData);
    }
}
