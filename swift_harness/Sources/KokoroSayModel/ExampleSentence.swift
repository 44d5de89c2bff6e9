/// A sentence with its phonemes, which are what the network takes.
public struct ExampleSentence: Sendable, Hashable, Identifiable {
    /// What is said, in letters.
    public let text: String
    /// What is said, as upstream's G2P (misaki) writes it.
    public let phonemes: String

    /// The text.
    public var id: String { text }

    /// English sentences from short to long; the last needs several parts where the bundle has
    /// small buckets only.
    public static let all = [
        ExampleSentence(text: "Thank you so much.", phonemes: "θˈæŋk ju sˌO mˈʌʧ."),
        ExampleSentence(
            text: "You owe our aunt a yellow eel, I hear.",
            phonemes: "jˌu ˈO ˌWəɹ ˈænt ɐ jˈɛlO ˈil, ˌI hˈɪɹ."),
        ExampleSentence(
            text: "Keep the ladder away from the window, please.",
            phonemes: "kˈip ðə lˈædəɹ əwˈA fɹʌm ðə wˈɪndO, plˈiz."),
        ExampleSentence(
            text: "Three things mattered to him — bread, bees and bicycles — and he had lost two.",
            phonemes: "θɹˈi θˈɪŋz mˈæTəɹd tə hˌɪm — bɹˈɛd, bˈiz ænd bˈIsəkəlz — "
                + "ænd hi hæd lˈɔst tˈu."),
        ExampleSentence(
            text: "By the time the second bus arrived, the band had played every song it knew, "
                + "twice, and the mayor had gone home.",
            phonemes: "bˌI ðə tˈIm ðə sˈɛkənd bˈʌs əɹˈIvd, ðə bˈænd hæd plˈAd ˈɛvəɹi sˈɔŋ ɪt "
                + "nˈu, twˈIs, ænd ðə mˈAəɹ hæd ɡɔn hˈOm."),
    ]
}
