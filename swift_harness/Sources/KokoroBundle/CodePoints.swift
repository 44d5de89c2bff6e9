/// Text as a row of code points, which is how the network's phonemes and Python's strings count.
///
/// A Swift `Character` may join several of them, and `==` on strings takes different code points
/// for equal where Unicode calls them equivalent; neither happens here.
typealias CodePoints = [Unicode.Scalar]

extension Collection where Element == Unicode.Scalar {
    /// The text of these code points.
    var text: String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: self)
        return String(view)
    }
}

extension BidirectionalCollection where Element == Unicode.Scalar {
    /// These code points without white space at either end.
    func stripped() -> SubSequence {
        guard let first = firstIndex(where: { !$0.isSpace }),
            let last = lastIndex(where: { !$0.isSpace })
        else { return self[startIndex..<startIndex] }
        return self[first...last]
    }
}

extension Unicode.Scalar {
    /// Whether Python's `str.isspace` and `str.strip` take it for white space: `White_Space` of
    /// Unicode and the four separators of ASCII.
    var isSpace: Bool {
        properties.isWhitespace || ("\u{1C}"..."\u{1F}").contains(self)
    }

    /// Whether it can be shown as it is.
    var isPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator:
            return false
        case .spaceSeparator:
            return self == " "
        default:
            return true
        }
    }

    /// The code point as `U+0041`.
    var codePointName: String {
        let digits = String(value, radix: 16, uppercase: true)
        return "U+" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}

/// A text in quotation marks for a message, with what cannot be shown escaped.
package func quoted(_ text: some Collection<Unicode.Scalar>) -> String {
    let mark: Unicode.Scalar = text.contains("'") && !text.contains("\"") ? "\"" : "'"
    var result = CodePoints([mark])
    for scalar in text {
        if scalar == mark || scalar == "\\" {
            result += ["\\", scalar]
        } else if scalar.isPrintable {
            result.append(scalar)
        } else {
            result += escaped(scalar).unicodeScalars
        }
    }
    result.append(mark)
    return result.text
}

/// A text in quotation marks for a message.
package func quoted(_ text: String) -> String { quoted(text.unicodeScalars) }

private func escaped(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\n": return "\\n"
    case "\r": return "\\r"
    case "\t": return "\\t"
    default: break
    }
    let (mark, width) =
        scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
    let digits = String(scalar.value, radix: 16)
    return "\\" + mark + String(repeating: "0", count: width - digits.count) + digits
}
