#if canImport(CoreML)
    import Foundation
    import XCTest

    import KokoroCoreML

    /// The READMEs' example, so that it is compiled; `testItIsTheReadme` compares the three.
    private func example(longText: String, file: URL) async throws {
        func play(_ samples: [Float], at start: Double) {}
        // begin
        let folder = Bundle.main.url(forResource: "kokoro-82m", withExtension: nil)!
        let kokoro = try await KokoroSynthesizer.open(bundle: folder)
        // without it the first speech waits until Core ML has compiled and loaded
        try await kokoro.prewarm(tokens: [64], frames: [256])
        let speech = try await kokoro.synthesize(phonemes: "həlˈO wˈɜɹld.", voice: "af_heart")
        try WaveFile(samples: speech.samples, sampleRate: speech.sampleRate).write(to: file)
        for try await chunk in kokoro.stream(phonemes: longText, speed: 1.2) {
            play(chunk.samples, at: chunk.start)  // the next chunk is computed meanwhile
        }
        // end
    }

    final class ReadmeExampleTests: XCTestCase {
        func testItIsTheReadme() throws {
            let here = URL(fileURLWithPath: #filePath)
            let package = here.deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent()
            let compiled = try between("// begin", "// end", here)
            for folder in [package, package.deletingLastPathComponent()] {
                let readme = folder.appendingPathComponent("README.md")
                XCTAssertEqual(
                    try between("```swift", "```", readme), ["import KokoroCoreML"] + compiled)
            }
        }

        /// Lines that say something, without what they are indented by.
        private func between(_ begin: String, _ end: String, _ file: URL) throws -> [String] {
            try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
                .map { $0.trimmingCharacters(in: .whitespaces) }
                .drop { $0 != begin }.dropFirst().prefix { $0 != end }.map { $0 }
        }
    }
#endif
