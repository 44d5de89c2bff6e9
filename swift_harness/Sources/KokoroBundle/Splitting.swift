/// Splits phonemes that are too long to be said at once, where a speaker would breathe.
public enum Splitting {
    /// Code points that end a sentence, that end a clause, and that stand between words: the best
    /// place to split behind first.
    static let breaks: [Set<Unicode.Scalar>] = [
        [".", "!", "?", "…"], [";", ":", ",", "—"], [" "],
    ]

    /// Parts of at most `limit` phonemes, whose words together are those of the whole.
    ///
    /// As few breaks are made as possible, each behind the end of a sentence where there is one,
    /// else behind the end of a clause, else between words. A single part is returned as it was
    /// given.
    ///
    /// - Throws: `KokoroError.phonemes` if a word alone is longer than the limit.
    public static func split(_ phonemes: String, limit: Int) throws -> [String] {
        let whole = Array(phonemes.unicodeScalars)
        guard whole.count > limit else { return [phonemes] }
        var rest = whole.stripped()
        var parts: [String] = []
        while rest.count > limit {
            let place = try lastBreak(rest, limit: limit)
            parts.append(rest[..<place].stripped().text)
            rest = rest[place...].stripped()
        }
        return rest.isEmpty ? parts : parts + [rest.text]
    }

    /// Two parts, broken as near to the middle as the best kind of break allows.
    ///
    /// - Throws: `KokoroError.phonemes` if there is one word.
    public static func halves(_ phonemes: String) throws -> (left: String, right: String) {
        let text = Array(Array(phonemes.unicodeScalars).stripped())
        for ends in breaks {
            let places = text.indices.dropFirst().filter {
                isBreak(text[...], at: $0, behind: ends)
            }
            let distance = { (place: Int) in abs(2 * place - text.count) }
            if let place = places.min(by: { distance($0) < distance($1) }) {
                return (text[..<place].stripped().text, text[place...].stripped().text)
            }
        }
        throw KokoroError.phonemes(
            "'\(text.prefix(40).text)' is one word and cannot be split; say it faster")
    }

    /// The last place of the best kind that leaves at most `limit` code points in front of it.
    private static func lastBreak(_ text: ArraySlice<Unicode.Scalar>, limit: Int) throws -> Int {
        for ends in breaks {
            var found: Int?
            for place in text.indices.dropFirst() {
                guard text[..<place].stripped().count <= limit else { break }
                if isBreak(text, at: place, behind: ends) { found = place }
            }
            if let found { return found }
        }
        throw KokoroError.phonemes(
            "a word of more than \(limit) phonemes begins with '\(text.prefix(20).text)'; the "
                + "network takes no more at once")
    }

    /// Whether a word ends in front of `place`, which is within the text.
    private static func isBreak(
        _ text: ArraySlice<Unicode.Scalar>, at place: Int, behind ends: Set<Unicode.Scalar>
    ) -> Bool {
        ends.contains(text[place - 1]) && (ends == [" "] || text[place] == " ")
    }
}
