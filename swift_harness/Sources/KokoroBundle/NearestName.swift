/// A sentence that offers the known name closest to `name`, or lists all of them.
///
/// Closeness is that of Ratcliff and Metzener (1988): twice the code points in common blocks over
/// all code points, at least 0.6.
package func nearest(_ name: String, of known: [String]) -> String {
    let smallest = 0.6
    let wanted = Array(name.unicodeScalars)
    let close = known.map { (similarity(Array($0.unicodeScalars), wanted), $0) }
        .filter { $0.0 >= smallest }
    if let best = close.max(by: { $0 < $1 }) { return "did you mean '\(best.1)'?" }
    return "known: \(known.joined(separator: ", "))"
}

private func similarity(_ one: CodePoints, _ other: CodePoints) -> Double {
    2 * Double(matches(one[...], other[...])) / Double(one.count + other.count)
}

/// Code points in the longest common block and in those on either side of it.
private func matches(
    _ one: ArraySlice<Unicode.Scalar>, _ other: ArraySlice<Unicode.Scalar>
) -> Int {
    let (first, second, length) = longestBlock(one, other)
    guard length > 0 else { return 0 }
    return matches(one[..<first], other[..<second]) + length
        + matches(one[(first + length)...], other[(second + length)...])
}

private func longestBlock(
    _ one: ArraySlice<Unicode.Scalar>, _ other: ArraySlice<Unicode.Scalar>
) -> (Int, Int, Int) {
    var best = (one.startIndex, other.startIndex, 0)
    for first in one.indices {
        for second in other.indices {
            let length = zip(one[first...], other[second...]).prefix { $0 == $1 }.count
            if length > best.2 { best = (first, second, length) }
        }
    }
    return best
}
